"""Datasets and batches."""

from functools import partial

import torch

from .audio import Audio, ManifestItems, read_audio
from .config import Config
from .config.data import Dialtones
from .dialtones import DialtoneItems
from .engine.config import Split
from .engine.project import Batch, Items

Item = tuple[Audio, str]


def open_items(cfg: Config, split: Split) -> Items[Item]:
    """A sequence of (audio, text) pairs."""
    sample_rate = cfg.model.encoder.sample_rate
    if isinstance(cfg.data, Dialtones):
        return DialtoneItems(cfg.data, split, sample_rate)
    return ManifestItems(cfg.data, split, partial(read_audio, sample_rate=sample_rate))


def collate(items: list[Item], cfg: Config) -> Batch:
    """Pad to a batch: audio [items, samples] and targets [items, symbols], each with its lengths.

    Symbol k of the vocabulary is class k + 1; class 0 is the blank of CTC.
    """
    vocabulary = cfg.data.vocabulary
    audio, texts = zip(*items, strict=True)
    targets = [torch.tensor([vocabulary.index(symbol) + 1 for symbol in text]) for text in texts]
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return {
        "audio": pad([torch.from_numpy(a) for a in audio]),
        "samples": torch.tensor([len(a) for a in audio]),
        "targets": pad(targets),
        "symbols": torch.tensor([len(t) for t in targets]),
    }
