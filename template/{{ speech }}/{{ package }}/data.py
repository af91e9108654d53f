"""Datasets and batches."""

import os
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .audio import Audio, ManifestItems, read_audio
from .config import Config
from .config.data import Dialtones, Split
from .dialtones import DialtoneItems
from .engine.batches import BatchOrder, in_order

Batch = dict[str, Tensor]


def open_items(cfg: Config, split: Split) -> DialtoneItems | ManifestItems:
    """A sequence of (audio, text) pairs."""
    sample_rate = cfg.model.encoder.sample_rate
    if isinstance(cfg.data, Dialtones):
        return DialtoneItems(cfg.data, split, sample_rate)
    path = Path(getattr(cfg.data, split))
    return ManifestItems(path, cfg.data.vocabulary, partial(read_audio, sample_rate=sample_rate))


def collate(items: list[tuple[Audio, str]], vocabulary: str) -> Batch:
    """Pad to a batch: audio [items, samples] and targets [items, symbols], each with its lengths.

    Symbol k of the vocabulary is class k + 1; class 0 is the blank of CTC.
    """
    audio, texts = zip(*items, strict=True)
    targets = [torch.tensor([vocabulary.index(symbol) + 1 for symbol in text]) for text in texts]
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return {
        "audio": pad([torch.from_numpy(a) for a in audio]),
        "samples": torch.tensor([len(a) for a in audio]),
        "targets": pad(targets),
        "symbols": torch.tensor([len(t) for t in targets]),
    }


def train_loader(cfg: Config, start: int) -> DataLoader[Batch]:
    """Micro-batches from iteration `start` on, `accumulate` of them for each iteration."""
    items = open_items(cfg, "train")
    run, loader = cfg.training.run, cfg.training.loader
    order = BatchOrder(len(items), loader.batch_size, run.accumulate, run.seed, start, run.iter_num)
    return _load(cfg, items, order)


def eval_loader(cfg: Config, split: Split, batches: int | None) -> DataLoader[Batch]:
    """The first `batches` batches of a split, or all of it."""
    items = open_items(cfg, split)
    return _load(cfg, items, in_order(len(items), cfg.training.loader.batch_size, batches))


def _load(
    cfg: Config, items: DialtoneItems | ManifestItems, batches: BatchOrder | list[list[int]]
) -> DataLoader[Batch]:
    return DataLoader(
        items,  # type: ignore[arg-type]  # a sequence is all that DataLoader needs
        batch_sampler=batches,
        num_workers=min(cfg.training.loader.num_workers, os.cpu_count() or 1),
        collate_fn=partial(collate, vocabulary=cfg.data.vocabulary),
        pin_memory=torch.cuda.is_available(),
        # without one of its own, a loader draws from the global random state each time it starts
        generator=torch.Generator().manual_seed(cfg.training.run.seed),
    )
