"""Which items make up which batch, as a function of the seed alone."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import Sampler

T_co = TypeVar("T_co", covariant=True)

Key = tuple[int, int]
"""An item's position in the whole run, and its index in the dataset."""


@dataclass(eq=False)
class BatchOrder(Sampler[list[Key]]):
    """Shuffled micro-batches of the iterations after `start`, up to `stop`.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number and laid end to end, so a run continues anywhere without reading what came before.
    With a `bucket`, the items of so many batches are sorted by `length` before they are dealt out,
    so that a batch holds items alike and pads little; which of these batches is first is drawn.
    Each micro-batch has `shares` equal parts, one for each process; this yields part `share`.
    """

    num_items: int
    batch_size: int
    accumulate: int
    seed: int
    start: int
    stop: int
    share: int = 0
    shares: int = 1
    bucket: int | None = field(kw_only=True)
    length: Callable[[int], float] = field(kw_only=True)

    def __post_init__(self) -> None:
        # no more than an epoch, or copies of an item would be sorted into one batch
        self._size = max(1, min(self.bucket or 1, self.num_items // self.batch_size))
        self._number, self._batches = -1, list[list[Key]]()

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
        number, place = divmod(iteration - 1, self._size)
        if number != self._number:
            self._number, self._batches = number, self._draw(number)
        return self._batches[place]

    def _draw(self, number: int) -> list[list[Key]]:
        """The batches of a bucket."""
        size = self._size * self.batch_size
        keys, order = [], np.arange(self._size)
        for position in range(number * size, (number + 1) * size):
            epoch, place = divmod(position, self.num_items)
            keys.append((position, int(_permutation(self.seed, epoch, self.num_items)[place])))
        if self._size > 1:
            keys.sort(key=lambda key: self.length(key[1]))
            order = np.random.default_rng([self.seed, number, 1]).permutation(order)
        return [keys[i * self.batch_size :][: self.batch_size] for i in order]


@lru_cache(maxsize=1)
def _permutation(seed: int, epoch: int, size: int) -> Any:
    return np.random.default_rng([seed, epoch]).permutation(size)


def in_order(
    num_items: int, batch_size: int, batches: int | None, share: int = 0, shares: int = 1
) -> list[list[Key]]:
    """Batches of items 0, 1, 2, …, the last one perhaps smaller; at most `batches` of them.

    Process number `share` of `shares` gets every shares-th batch.
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
