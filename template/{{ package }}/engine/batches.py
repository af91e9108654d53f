"""Which items make up which batch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BatchOrder(Sampler[list[int]]):
    """Shuffled micro-batches of the iterations after `start`, up to `stop`.

    The batch of iteration i is a function of (seed, i) alone: epochs are permutations, each seeded
    by its number and laid end to end, so a run continues anywhere without reading what came before.
    """

    def __init__(
        self, num_items: int, batch_size: int, accumulate: int, seed: int, start: int, stop: int
    ) -> None:
        self.num_items = num_items
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for iteration in range(self.start, self.stop):
            first = iteration * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.num_items != epoch:
                    epoch = position // self.num_items
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.num_items)
                batch.append(int(order[position % self.num_items]))
            size = self.batch_size // self.accumulate
            yield from (batch[i : i + size] for i in range(0, self.batch_size, size))


def in_order(num_items: int, batch_size: int, batches: int | None) -> list[list[int]]:
    """Batches of items 0, 1, 2, …, the last one perhaps smaller; at most `batches` of them."""
    firsts = range(0, num_items, batch_size)[:batches]
    return [list(range(first, min(first + batch_size, num_items))) for first in firsts]
