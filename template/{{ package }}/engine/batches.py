"""Which items make up which batch, and what a data loader needs to be exact."""

import hashlib
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from .errors import Stopped, UserError
from .stopping import Stop, kept_from_children

T_co = TypeVar("T_co", covariant=True)

Key = tuple[int, int]
"""An item's position in the whole run, and its index in the dataset."""


class BatchOrder(Sampler[list[Key]]):
    """Shuffled micro-batches of the iterations after `start`, up to `stop`.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number and laid end to end, so a run continues anywhere without reading what came before.
    With a `bucket`, the items of so many batches are sorted by `length` before they are dealt out,
    so that a batch holds items alike and pads little; which of these batches is first is drawn.
    Of `shares` equal parts of each micro-batch, one for each process, it yields part `share`.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        accumulate: int,
        seed: int,
        start: int,
        stop: int,
        share: int = 0,
        shares: int = 1,
        *,
        bucket: int | None,
        length: Callable[[int], float],
    ) -> None:
        self.num_items = num_items
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.start = start
        self.stop = stop
        self.share = share
        self.shares = shares
        # no more than an epoch, or copies of an item would be sorted into one batch
        self.bucket = max(1, min(bucket or 1, num_items // batch_size))
        self.length = length
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        self._bucket = -1
        self._batches: list[list[Key]] = []

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.batch_size // (self.accumulate * self.shares)
        for iteration in range(self.start + 1, self.stop + 1):
            batch = self.batch(iteration)
            for micro_batch in range(self.accumulate):
                first = (micro_batch * self.shares + self.share) * size
                yield batch[first : first + size]

    def batch(self, iteration: int) -> list[Key]:
        """All items of an iteration; the first one is iteration 1."""
        bucket, place = divmod(iteration - 1, self.bucket)
        if bucket != self._bucket:
            self._bucket = bucket
            keys = self._drawn(bucket)
            order = np.arange(self.bucket)
            if self.bucket > 1:
                keys.sort(key=lambda key: self.length(key[1]))
                order = np.random.default_rng([self.seed, bucket, 1]).permutation(order)
            self._batches = [keys[i * self.batch_size :][: self.batch_size] for i in order]
        return self._batches[place]

    def _drawn(self, bucket: int) -> list[Key]:
        size = self.bucket * self.batch_size
        keys = []
        for position in range(bucket * size, (bucket + 1) * size):
            epoch, place = divmod(position, self.num_items)
            if epoch != self._epoch:
                self._epoch = epoch
                order = np.random.default_rng([self.seed, epoch])
                self._order = order.permutation(self.num_items)
            keys.append((position, int(self._order[place])))
        return keys


def in_order(
    num_items: int, batch_size: int, batches: int | None, share: int = 0, shares: int = 1
) -> list[list[Key]]:
    """Batches of items 0, 1, 2, …, the last one perhaps smaller; at most `batches` of them.

    Of `shares` processes, the one numbered `share` gets every shares-th batch.
    """
    firsts = range(0, num_items, batch_size)[:batches][share::shares]
    return [[(i, i) for i in range(f, min(f + batch_size, num_items))] for f in firsts]


class Items(Protocol[T_co]):
    """What a dataset has to offer."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> T_co: ...
    def length(self, index: int) -> float:
        """How long it is, in any unit: shorter ones are padded to the longest of their batch."""

    def name(self, index: int) -> str:
        """What to call an item in a message."""

    def files(self) -> list[Path]:
        """All files that the items are read from, in their order; none where items are made."""


class Seeded(Dataset[T_co]):
    """Items whose own randomness, if they have any, is a function of (seed, position) alone.

    So it depends neither on workers nor on where a run was resumed. Each worker notes which item
    it reads, so that one that hangs can be named.
    """

    def __init__(self, items: Items[T_co], seed: int, workers: int) -> None:
        self.items = items
        self.seed = seed
        self.read_by = get_context().RawArray("q", [-1] * workers)

    def __getitem__(self, key: Key) -> T_co:
        """The item of a key."""
        position, index = key
        seed_all(self.seed, position)
        worker = get_worker_info()
        if not worker:
            return self.items[index]
        self.read_by[worker.id] = index
        item = self.items[index]
        self.read_by[worker.id] = -1
        return item


class Loader(DataLoader[T_co]):
    """A DataLoader whose workers leave the signals of a terminal or a cluster to the run.

    A batch that is awaited for longer than `timeout_seconds` raises UserError; once `stop` is set,
    one that is awaited for longer than `stop_seconds` raises Stopped.
    """

    def __init__(
        self, data: Seeded[Any], stop: Stop | None, timeout: int, stop_timeout: int, **more: Any
    ) -> None:
        # after a second without a batch torch raises, and may be asked again
        super().__init__(data, timeout=1 if more["num_workers"] else 0, **more)
        self.data, self.stop = data, stop
        self.timeout_seconds, self.stop_seconds = timeout, stop_timeout

    def __iter__(self) -> Any:
        """Start the workers, if there are any."""
        with kept_from_children() if self.num_workers else nullcontext():
            batches = super().__iter__()
        return self._awaited(batches) if self.num_workers else batches

    def _awaited(self, batches: Any) -> Iterator[T_co]:
        waited = 0  # seconds
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (ConnectionError, EOFError) as error:
                if "in DataLoader worker process" in str(error):
                    raise  # the dataset's own
                # it was killed while it handed over a batch, and torch has not noticed yet
                raise RuntimeError("DataLoader worker (pid unknown) exited unexpectedly") from error
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    raise
                waited += 1
                self._give_up(waited, batches._workers)
            else:
                waited = 0
                yield batch

    def _give_up(self, waited: int, workers: list[Any]) -> None:
        stopped = self.stop.signal if self.stop else 0
        if waited < (self.stop_seconds if stopped else self.timeout_seconds):
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises for each that is killed
        for worker in workers:
            worker.kill()  # the end of this process would wait for it
        if stopped and dist.is_initialized():
            raise RuntimeError("stopped without a batch")  # so that the other processes end as well
        if stopped:
            raise Stopped(stopped)
        read = [(i, self.data.items.name(n)) for i, n in enumerate(self.data.read_by) if n >= 0]
        raise UserError(
            f"no batch for {waited} s (training.loader.timeout_seconds)\n"
            + "".join(f"data worker {i} reads {name}\n" for i, name in read)
            + "training.num_workers=0 reads in the run itself; the same command with name= resumes"
        )


def seed_all(*numbers: int) -> None:
    """Seed random, NumPy and torch from these numbers together; takes about 10 µs."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed also keeps a formatted traceback for each kind of GPU that is not in use
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
