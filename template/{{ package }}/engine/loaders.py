# Kept by the template; an update merges what you change here.
"""Batches of the project's items: shuffled for training, in order for evaluation."""

import os
from functools import partial

import torch
from torch.utils.data import DataLoader

from ..config import Config
from ..config.data import Split
from ..data import Batch, Item, collate, open_items
from .batches import BatchOrder, Items, Key, Loader, Seeded, in_order
from .processes import share
from .stopping import leave_signals_to_the_run


def train_loader(cfg: Config, start: int) -> DataLoader[Batch]:
    """Micro-batches from iteration `start` on, `accumulate` of them for each iteration."""
    items = open_items(cfg, "train")
    return _load(cfg, items, batch_order(cfg, items, start))


def batch_order(cfg: Config, items: Items[Item], start: int) -> BatchOrder:
    """Which items each iteration after `start` holds, this process's share of them."""
    run, loader = cfg.training.run, cfg.training.loader
    return BatchOrder(
        min(len(items), loader.limit or len(items)),
        loader.batch_size,
        run.accumulate,
        run.seed,
        start,
        run.iter_num,
        *share(),
        bucket=loader.bucket,
        length=items.length,
    )


def items_of_batch(cfg: Config, iteration: int) -> list[str]:
    """Names of the items that an iteration holds, for messages."""
    items = open_items(cfg, "train")
    order = batch_order(cfg, items, start=iteration)
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
        collate_fn=partial(collate, cfg=cfg),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_run,
        # without one of its own, a loader draws from the global random state each time it starts
        generator=torch.Generator().manual_seed(seed),
    )
