"""Batches of the project's items: shuffled for training, in order for evaluation."""

import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .. import find_part
from ..config import Config, Split
from ..distributed.devices import cores_here
from ..errors import Stopped, UserError
from ..project import Batch, Items, Project
from ..signals import Stop, block_signals_in_children, leave_signals_to_the_run
from .order import BatchOrder, EvalOrder, Key, seed_all

# a fork server or spawn, the default in jobs, ranks and Python 3.14, is slow and hides the parent
FORK = "fork" if sys.platform == "linux" else None
PACKAGE = Path(__file__).parents[2]
SHARED_MEMORY = """\
batches of data workers go through /dev/shm: make it larger (docker run --shm-size=8g), or choose
fewer training.num_workers (0 needs none) or a smaller training.batch_size"""


def train_loader(project: Project, cfg: Config, stop: Stop | None = None) -> "Loader":
    """The micro-batches of a run, `accumulate` for each iteration."""
    items = open_split(project, cfg, "train")
    if (part := find_part("data.stream")) and (stream := part.training_stream(items, cfg)):
        return cast("Loader", part.StreamLoader(project, cfg, stream, stop))
    return Loader(project, cfg, SeededDataset(items, cfg), BatchOrder(items, cfg.training), stop)


def eval_loader(
    project: Project, cfg: Config, split: Split, batches: int | None, stop: Stop | None = None
) -> "Loader":
    """A split's first `batches` (None: all), in order; each process gets its share."""
    items = open_split(project, cfg, split)
    if (part := find_part("data.stream")) and isinstance(items, part.Stream):
        return cast("Loader", part.StreamLoader(project, cfg, items, stop, False, batches))
    order = EvalOrder(len(items), cfg.training.loader.batch_size, batches)
    return Loader(project, cfg, SeededDataset(items, cfg), order, stop)


def open_split(project: Project, cfg: Config, split: Split) -> Items[Any]:
    """The items of a split. Raises UserError if it is empty."""
    items = project.open_items(cfg, split)
    if not len(items):
        raise UserError(f"data = {cfg.data.kind}: its split {split} is empty; expected items")
    return items


class SeededDataset(Dataset[Any]):
    """Items whose randomness is a function of (seed, position) alone.

    It depends neither on the workers nor on where a run resumed. Each worker records the item that
    it reads, so that a message can name one that hangs or fails.
    """

    def __init__(self, items: Items[Any], cfg: Config) -> None:
        self.items, self.seed = items, cfg.training.run.seed
        self.workers = min(cfg.training.loader.num_workers, cores_here())
        self.read_by = get_context(FORK).RawArray("q", [-1] * max(1, self.workers))

    def name(self, index: int) -> str:
        """An item's name in messages."""
        return self.items.name(index)

    def record(self, index: int) -> None:
        """Record the item that this worker reads; -1: none."""
        worker = get_worker_info()
        self.read_by[worker.id if worker else 0] = index

    def __getitem__(self, key: Key) -> Any:
        position, index = key
        seed_all(self.seed, position)
        self.record(index)
        item = self.items[index]
        self.record(-1)
        return item


def collate_items(items: list[Any], project: Project, cfg: Config) -> Batch:
    """A batch, in shared memory if a data worker makes it. Raises UserError if that is full."""
    batch = project.collate(items, cfg)
    for tensor in batch.values() if get_worker_info() else ():
        try:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:  # in torch's own thread it would be lost
            raise UserError(f"{error}\n{SHARED_MEMORY}") from None
    return batch


class Loader(DataLoader[Batch]):
    """A DataLoader whose workers ignore signals of a terminal or a cluster: the run handles them.

    Raises UserError if a batch takes longer than engine.loader_seconds; once `stop` is set,
    Stopped if one takes longer than engine.stop_seconds.
    """

    stateful: Mapping[str, Any] = {}
    """What a checkpoint holds of it."""
    collate: Callable[..., Any] = staticmethod(collate_items)

    def __init__(
        self, project: Project, cfg: Config, data: SeededDataset, order: Any, stop: Stop | None
    ) -> None:
        self.cfg, self.data, self.order, self.stop = cfg, data, order, stop
        super().__init__(
            data,
            batch_sampler=order,
            num_workers=data.workers,
            multiprocessing_context=FORK if data.workers else None,
            collate_fn=partial(self.collate, project=project, cfg=cfg),
            pin_memory=torch.cuda.is_available(),
            timeout=1 if data.workers else 0,  # then torch raises, and may be called again
            worker_init_fn=leave_signals_to_the_run,
            # without its own generator, a loader draws from the global random state when it starts
            generator=torch.Generator().manual_seed(data.seed),
        )

    def names(self, iteration: int | None = None) -> Iterable[str]:
        """The items of an iteration, of all processes; of all batches if it is an evaluation's."""
        if iteration is None:
            return map(self.data.name, range(self.order.num_items))
        return (self.data.name(index) for _, index in self.order.batch(iteration))

    def count_items(self, iterations: int) -> int:
        """The number of items in the last `iterations`, of all processes."""
        return iterations * self.cfg.training.loader.batch_size

    def gather_state(self) -> None:
        """Gather the state of all processes, which must all call this, for a checkpoint."""

    def __iter__(self) -> Any:
        if not self.num_workers:
            return super().__iter__()
        with block_signals_in_children():
            return self._wait_for(super().__iter__())

    def _wait_for(self, batches: Any) -> Iterator[Batch]:
        waited = 0  # seconds
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (ConnectionError, EOFError) as error:
                if "in DataLoader worker process" in str(error):
                    raise  # the dataset raised it
                # a worker was killed while it sent a batch, and torch has not noticed yet
                raise RuntimeError("DataLoader worker (pid unknown) exited unexpectedly") from error
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    raise
                waited += 1
                self._check_timeout(waited, batches._workers)
            else:
                waited = 0
                yield batch

    def _check_timeout(self, waited: int, workers: list[Any]) -> None:
        stopped, settings = self.stop.signal if self.stop else 0, self.cfg.engine
        if waited < (settings.stop_seconds if stopped else settings.loader_seconds):
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises for killed workers
        for worker in workers:
            worker.kill()  # this process would wait for it at exit
        if stopped:
            # with several processes, an error ends the others too
            failure = RuntimeError("stopped without a batch")
            raise failure if dist.is_initialized() else Stopped(stopped)
        read = [(i, self.data.name(n)) for i, n in enumerate(self.data.read_by) if n >= 0]
        raise UserError(
            f"no batch for {waited} s (engine.loader_seconds)\n"
            + "".join(f"data worker {i} reads {name}\n" for i, name in read)
            + "training.num_workers=0 reads in the run itself; the same command with name= resumes"
        )


class Expired(BaseException):
    """A dataset took too long. A BaseException, since datasets may catch every Exception."""


def first_batch(project: Project, cfg: Config, split: Split) -> Batch:
    """The first batch that a run would read, read in this process.

    Raises UserError with the item and the line of the project where the dataset fails or hangs.
    """
    at, seconds = "open_items", cfg.engine.loader_seconds
    loader: Loader | None = None

    def expire(*_: object) -> None:
        raise Expired(f"nothing for {seconds} s (engine.loader_seconds)")

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        is_train = split == "train"
        loader = train_loader(project, cfg) if is_train else eval_loader(project, cfg, split, None)
        loader.num_workers = loader.timeout = 0
        at = "files"
        loader.data.items.files()
        at = "collate"
        return next(iter(loader))
    except UserError:
        raise
    except (Exception, Expired) as error:
        if loader is not None and (index := loader.data.read_by[0]) >= 0:
            at = f"item {loader.data.name(index)}"
        frames = traceback.extract_tb(error.__traceback__)
        where = ([f for f in frames if Path(f.filename).parent == PACKAGE] or frames)[-1]
        raise UserError(
            f"data = {cfg.data.kind}, split {split}, {at}: {type(error).__name__}: {error}\n"
            f"{where.filename}:{where.lineno}: {where.line}"
        ) from None
    finally:
        signal.alarm(0)
