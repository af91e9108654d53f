"""The order of items in batches, and random numbers, as functions of the seed alone."""

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..config import Training
from ..distributed.collectives import rank, world_size
from ..project import Items

BLOCK = 4096  # places permuted at once: one by one is slow
Indices = NDArray[np.int64]
Key = tuple[int, int]
"""An item's position in the whole run, and its index in the dataset."""


class EvalOrder(Sampler[list[Key]]):
    """This rank's share of a split's first `batches` batches (None: all): every world_size-th."""

    def __init__(self, num_items: int, size: int, batches: int | None) -> None:
        self.num_items, self.size = num_items, size
        self.firsts = range(0, num_items, size)[:batches][rank() :: world_size()]

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[Key]]:
        for first in self.firsts:
            yield [(i, i) for i in range(first, min(first + self.size, self.num_items))]


class BatchOrder(Sampler[list[Key]]):
    """Shuffled micro-batches of the iterations after `start`, this rank's equal slice of each.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number, one after another, so that a run resumes anywhere without reading earlier items.
    With a `bucket`, the items of that many batches are sorted by length before they are divided,
    so that a batch pads little; the order of these batches is random.
    """

    def __init__(self, items: Items[Any], training: Training, start: int = 0) -> None:
        self.items, self.start, self.run, loader = items, start, training.run, training.loader
        self.batch_size = loader.batch_size
        self.num_items = min(len(items), loader.limit or len(items))
        # at most an epoch, or copies of an item would be sorted into one batch
        self.bucket = max(1, min(loader.bucket or 1, self.num_items // self.batch_size))
        self.number, self.batches = -1, list[list[Key]]()  # of the bucket that was drawn last

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.batch_size // (self.run.accumulate * world_size())
        for iteration in range(self.start + 1, self.run.iter_num + 1):
            for micro_batch in range(self.run.accumulate):
                first = (micro_batch * world_size() + rank()) * size
                yield self.batch(iteration)[first : first + size]

    def batch(self, iteration: int) -> list[Key]:
        """All items of an iteration; the first one is iteration 1."""
        number, place = divmod(iteration - 1, self.bucket)
        if number != self.number:
            self.number, self.batches = number, self._draw(number)
        return self.batches[place]

    def _draw(self, number: int) -> list[list[Key]]:
        seed, size = self.run.seed, self.bucket * self.batch_size
        keys, order = list[Key](), np.arange(self.bucket)
        while len(keys) < size:
            position = number * size + len(keys)
            epoch, place = divmod(position, self.num_items)
            block = _permute_block(place // BLOCK, self.num_items, (seed, epoch))[place % BLOCK :]
            keys += zip(itertools.count(position), block[: size - len(keys)].tolist())
        if self.bucket > 1:
            keys.sort(key=lambda key: self.items.length(key[1]))
            order = np.random.default_rng([seed, number, 1]).permutation(order)
        return [keys[i * self.batch_size :][: self.batch_size] for i in order]


@functools.lru_cache(maxsize=1)  # the next batch is mostly of the same block
def _permute_block(number: int, size: int, key: tuple[int, int]) -> Indices:
    return permute(np.arange(number * BLOCK, min((number + 1) * BLOCK, size)), size, key)


def permute(places: Indices, size: int, key: tuple[int, ...]) -> Indices:
    """The entries at these places of a pseudorandom permutation of range(size).

    A Feistel network of eight rounds (Luby and Rackoff 1988) permutes the numbers of an even number
    of bits; cycle walking (Black and Rogaway 2002) maps those of `size` or more back into range.
    """
    rounds = np.random.default_rng(key).integers(0, 2**63, 8, dtype=np.uint64)
    half = np.uint64(((size - 1).bit_length() + 1) // 2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    values, beyond = places.astype(np.uint64), np.ones(len(places), bool)
    while beyond.any():
        left, right = values[beyond] >> half, values[beyond] & mask
        for number in rounds:
            mixed = (right + number) * np.uint64(0x9E3779B97F4A7C15)  # as SplitMix64 does
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
        values[beyond] = (left << half) | right
        beyond = values >= size
    return values.astype(np.int64)


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
