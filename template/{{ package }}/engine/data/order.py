"""The order of items in batches, and random numbers, as functions of the seed alone."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

Key = tuple[int, int]
"""An item's position in the whole run, and its index in the dataset."""


@dataclass(eq=False, kw_only=True)
class BatchOrder(Sampler[list[Key]]):
    """Shuffled micro-batches of the iterations after `start`, up to `stop`.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number, one after another, so that a run resumes anywhere without reading earlier items.
    With a `bucket`, the items of that many batches are sorted by `length` before they are divided,
    so that a batch pads little; the order of these batches is random.
    Yields this rank's slice of each micro-batch; there are `world_size` equal slices.
    """

    num_items: int
    batch_size: int
    accumulate: int
    seed: int
    start: int
    stop: int
    rank: int = 0
    world_size: int = 1
    bucket: int | None
    length: Callable[[int], float]
    _number: int = field(default=-1, init=False)
    _batches: list[list[Key]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        # at most an epoch, or copies of an item would be sorted into one batch
        self._size = max(1, min(self.bucket or 1, self.num_items // self.batch_size))

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.batch_size // (self.accumulate * self.world_size)
        for iteration in range(self.start + 1, self.stop + 1):
            batch = self.batch(iteration)
            for micro_batch in range(self.accumulate):
                first = (micro_batch * self.world_size + self.rank) * size
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


def sequential_batches(
    num_items: int, batch_size: int, batches: int | None, rank: int = 0, world_size: int = 1
) -> list[list[Key]]:
    """Batches of items 0, 1, 2, …, the last one maybe smaller; at most `batches` of them.

    Each rank gets every world_size-th batch.
    """
    firsts = range(0, num_items, batch_size)[:batches][rank::world_size]
    return [[(i, i) for i in range(f, min(f + batch_size, num_items))] for f in firsts]


def seed_all(*numbers: int) -> None:
    """Seed random, NumPy and torch from these numbers together; takes about 10 µs."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed also formats a traceback for each kind of GPU that is not in use
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
