"""Batches of the project's items: shuffled for training, in order for evaluation."""

import signal
import traceback
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from ..config import Config
from ..config.data import Split
from ..data import Batch, Item, collate, open_items
from .batches import BatchOrder, Items, Key, Loader, Seeded, in_order
from .devices import cores_here
from .errors import UserError
from .processes import share
from .stopping import Stop, leave_signals_to_the_run

ENGINE = Path(__file__).parent
SHARED_MEMORY = """\
batches of data workers go through /dev/shm: make it larger (docker run --shm-size=8g), or choose
fewer training.num_workers (0 needs none) or a smaller training.batch_size"""


def train_loader(cfg: Config, start: int, stop: Stop | None = None) -> Loader[Batch]:
    """Micro-batches from iteration `start` on, `accumulate` of them for each iteration."""
    items = open_split(cfg, "train")
    return _load(cfg, items, batch_order(cfg, items, start), stop)


def open_split(cfg: Config, split: Split) -> Items[Item]:
    """The items of a split. Raises UserError where there are none."""
    items = open_items(cfg, split)
    if not len(items):
        raise UserError(f"data = {cfg.data.kind}: its split {split} is empty; expected items")
    return items


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


def eval_loader(
    cfg: Config, split: Split, batches: int | None, stop: Stop | None = None
) -> Loader[Batch]:
    """The first `batches` batches of a split, or all of it; this process's share of them."""
    items = open_split(cfg, split)
    order = in_order(len(items), cfg.training.loader.batch_size, batches, *share())
    return _load(cfg, items, order, stop)


def _load(
    cfg: Config, items: Items[Item], batches: BatchOrder | list[list[Key]], stop: Stop | None
) -> Loader[Batch]:
    loader, seed = cfg.training.loader, cfg.training.run.seed
    workers = min(loader.num_workers, cores_here())
    return Loader(
        Seeded(items, seed, workers),
        stop,
        loader.timeout_seconds,
        loader.stop_seconds,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collate, cfg=cfg),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_run,
        # without one of its own, a loader draws from the global random state each time it starts
        generator=torch.Generator().manual_seed(seed),
    )


def _collate(items: list[Item], cfg: Config) -> Batch:
    batch = collate(items, cfg=cfg)
    for tensor in batch.values() if get_worker_info() else ():
        try:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:  # in torch's own thread nobody would hear of it
            raise UserError(f"{error}\n{SHARED_MEMORY}") from None
    return batch


class Expired(BaseException):
    """A dataset has taken too long; it catches perhaps every Exception."""


def first_batch(cfg: Config, split: Split) -> Batch:
    """The first batch that a run would read, read in this process.

    Raises UserError with the item and the line of the project where the dataset fails or hangs.
    """
    at, seconds = "open_items", cfg.training.loader.timeout_seconds

    def expire(*_: object) -> None:
        raise Expired(f"nothing for {seconds} s (training.loader.timeout_seconds)")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        loader = train_loader(cfg, 0) if split == "train" else eval_loader(cfg, split, 1)
        items = []
        for key in next(iter(loader.batch_sampler)):  # type: ignore[arg-type]
            at = f"item {loader.data.items.name(key[1])}"
            items.append(loader.data[key])
        at = "collate"
        return _collate(items, cfg)
    except UserError:
        raise
    except (Exception, Expired) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if ENGINE.parent in Path(f.filename).parents[:2]]
        where = next((f for f in reversed(own) if Path(f.filename).parent != ENGINE), frames[-1])
        raise UserError(
            f"data = {cfg.data.kind}, split {split}, {at}: {type(error).__name__}: {error}\n"
            f"{where.filename}:{where.lineno}: {where.line}"
        ) from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
