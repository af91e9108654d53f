"""The order of items in batches, and random numbers, as functions of the seed alone."""

import hashlib
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from ..config import Training
from ..distributed.collectives import rank, world_size
from ..project import Items

Key = tuple[int, int]
"""An item's position in the whole run, and its index in the dataset."""


class BatchOrder(Sampler[list[Key]]):
    """Shuffled micro-batches of the iterations after `start`, this rank's equal slice of each.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number, one after another, so that a run resumes anywhere without reading earlier items.
    With a `bucket`, the items of that many batches are sorted by length before they are divided,
    so that a batch pads little; the order of these batches is random.
    """

    def __init__(self, items: Items[Any], training: Training, start: int) -> None:
        self.items, self.start, self.run, loader = items, start, training.run, training.loader
        self.batch_size = loader.batch_size
        self.num_items = min(len(items), loader.limit or len(items))
        # at most an epoch, or copies of an item would be sorted into one batch
        self.bucket = max(1, min(loader.bucket or 1, self.num_items // self.batch_size))
        self.number, self.batches = -1, list[list[Key]]()  # of the bucket that was drawn last

    def __len__(self) -> int:
        return (self.run.iter_num - self.start) * self.run.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.batch_size // (self.run.accumulate * world_size())
        for iteration in range(self.start + 1, self.run.iter_num + 1):
            batch = self.batch(iteration)
            for micro_batch in range(self.run.accumulate):
                first = (micro_batch * world_size() + rank()) * size
                yield batch[first : first + size]

    def batch(self, iteration: int) -> list[Key]:
        """All items of an iteration; the first one is iteration 1."""
        number, place = divmod(iteration - 1, self.bucket)
        if number != self.number:
            self.number, self.batches = number, self._draw(number)
        return self.batches[place]

    def _draw(self, number: int) -> list[list[Key]]:
        """The batches of a bucket."""
        seed, size = self.run.seed, self.bucket * self.batch_size
        keys, order = [], np.arange(self.bucket)
        for position in range(number * size, (number + 1) * size):
            epoch, place = divmod(position, self.num_items)
            keys.append((position, int(_permutation(seed, epoch, self.num_items)[place])))
        if self.bucket > 1:
            keys.sort(key=lambda key: self.items.length(key[1]))
            order = np.random.default_rng([seed, number, 1]).permutation(order)
        return [keys[i * self.batch_size :][: self.batch_size] for i in order]


@lru_cache(maxsize=1)
def _permutation(seed: int, epoch: int, size: int) -> Any:
    return np.random.default_rng([seed, epoch]).permutation(size)


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
