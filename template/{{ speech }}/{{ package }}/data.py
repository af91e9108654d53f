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
from .engine.batches import BatchOrder, Items, Key, Loader, Seeded, in_order
from .engine.processes import share
from .engine.stopping import leave_signals_to_the_run

Item = tuple[Audio, str]
Batch = dict[str, Tensor]


def open_items(cfg: Config, split: Split) -> Items[Item]:
    """A sequence of (audio, text) pairs."""
    sample_rate = cfg.model.encoder.sample_rate
    if isinstance(cfg.data, Dialtones):
        return DialtoneItems(cfg.data, split, sample_rate)
    path = Path(getattr(cfg.data, split))
    return ManifestItems(path, cfg.data.vocabulary, partial(read_audio, sample_rate=sample_rate))


def collate(items: list[Item], vocabulary: str) -> Batch:
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
    return _load(cfg, items, batch_order(cfg, len(items), start))


def batch_order(cfg: Config, num_items: int, start: int) -> BatchOrder:
    """Which items each iteration after `start` holds, this process's share of them."""
    run, loader = cfg.training.run, cfg.training.loader
    return BatchOrder(
        num_items, loader.batch_size, run.accumulate, run.seed, start, run.iter_num, *share()
    )


def items_of_batch(cfg: Config, iteration: int) -> list[str]:
    """Names of the items that an iteration holds, for messages."""
    items = open_items(cfg, "train")
    order = batch_order(cfg, len(items), start=iteration)
    return [items.name(index) for _, index in order.batch(iteration)]


def eval_loader(cfg: Config, split: Split, batches: int | None) -> DataLoader[Batch]:
    """The first `batches` batches of a split, or all of it; this process's share of them."""
    items = open_items(cfg, split)
    order = in_order(len(items), cfg.training.loader.batch_size, batches, *share())
    return _load(cfg, items, order)


def _load(
    cfg: Config, items: Items[Item], batches: BatchOrder | list[list[Key]]
) -> DataLoader[Batch]:
    seed = cfg.training.run.seed
    return Loader(
        Seeded(items, seed),  # type: ignore[arg-type]  # what it yields is collated to batches
        batch_sampler=batches,
        num_workers=min(cfg.training.loader.num_workers, os.cpu_count() or 1),
        collate_fn=partial(collate, vocabulary=cfg.data.vocabulary),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_run,
        # without one of its own, a loader draws from the global random state each time it starts
        generator=torch.Generator().manual_seed(seed),
    )
