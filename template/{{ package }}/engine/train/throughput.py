"""Training speed, the share of time spent waiting for data, and the losses since the last log."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..distributed.collectives import gather, sum_over_processes, world_size
from ..project import Batch


class Throughput:
    """Iterations and items per second, and the share of time spent waiting for data."""

    def __init__(self, start: int, count_items: Callable[[int], int]) -> None:
        """`count_items` returns the number of items in the last iterations, in all processes."""
        self.count_items = count_items
        self.total = [0.0, 0.0, 0.0, 0.0]  # iterations, items, seconds, seconds waited
        self.restart(start)

    def restart(self, iteration: int) -> None:
        """Start counting at this iteration, as after an evaluation, which is not training."""
        self.iteration, self.began, self.waited = iteration, time.perf_counter(), 0.0

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and measure how long each keeps the loop waiting."""
        began = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def read(self, iteration: int) -> dict[str, float]:
        """The figures since the last restart or read."""
        done, seconds = iteration - self.iteration, time.perf_counter() - self.began
        now = (done, self.count_items(done), seconds, self.waited)
        self.total = [*map(sum, zip(self.total, now, strict=True))]
        self.restart(iteration)
        return _rates(*now)

    def summary(self) -> dict[str, float]:
        """The figures over all reads; empty before the first."""
        return _rates(*self.total) if self.total[0] else {}


def _rates(iterations: float, items: float, seconds: float, waited: float) -> dict[str, float]:
    return {
        "iterations_per_second": iterations / seconds,
        "items_per_second": items / seconds,
        "data_wait": waited / seconds,
    }


class LossBuffer:
    """Losses and norms since the last log, kept on the device: reading them waits for it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Tensor]]] = []  # each iteration's
        # values that only some iterations or processes have
        self.extra: list[tuple[str, Tensor | float]] = []

    def read(self) -> list[tuple[int, dict[str, float]]]:
        """The values of each iteration, averaged over the processes."""
        if not self.rows:
            return []
        rows = [torch.stack([it.float() for it in row.values()]) for _, row in self.rows]
        means = (sum_over_processes(torch.stack(rows).cpu()) / world_size()).tolist()
        both = zip(self.rows, means, strict=True)
        return [(number, dict(zip(row, values, strict=True))) for (number, row), values in both]

    def read_extra(self) -> dict[str, float]:
        """The mean of each extra value, over the iterations and processes that have it."""
        lists: dict[str, list[float]] = {}
        for name, value in gather([(name, float(value)) for name, value in self.extra]):
            lists.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in lists.items()}
