"""metrics.jsonl, and what a run shows while it goes on."""

import contextlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import torch
from pydantic_core import from_json
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .processes import average, is_main

log = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS_PER_DAY = 24 * 60 * 60


class MetricsFile:
    """One JSON object a line: step, split, values. Always written, whatever the tracker."""

    def __init__(self, run_dir: Path, start: int, evaluated: int) -> None:
        """Of a run that goes on after iteration `start`, the last one `evaluated`."""
        self.path = run_dir / "metrics.jsonl"
        self.waiting = ""  # lines that a full disk did not take
        if not is_main():
            return
        if self.path.exists():  # a resumed run repeats the steps after its checkpoint: drop them
            lines = self.path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if _is_before(line, start, evaluated)]
            beside = self.path.with_suffix(".tmp")
            beside.write_bytes(b"".join(kept))
            beside.replace(self.path)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one line; where the disk is full, with a later one."""
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "split": split, **shown}) + "\n"
        if not is_main():
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(self.waiting + line)
        except OSError as error:
            if not self.waiting:
                log.warning("%s: %s; the run goes on", self.path, error.strerror)
            self.waiting += line
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)  # no half line
        else:
            self.waiting = ""


def _is_before(line: bytes, start: int, evaluated: int) -> bool:
    try:
        row = from_json(line)
        return bool(row["step"] <= (evaluated if row["split"] == "valid" else start))
    except (ValueError, KeyError, TypeError):
        return False  # half a line, from a run that was killed


class Recent:
    """Loss and gradient norm of the iterations since the last log, kept on the device.

    Reading them waits for the device, so that it is done no more often than they are shown.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, Tensor, Tensor]] = []

    def add(self, iteration: int, loss: Tensor, norm: Tensor) -> None:
        """Of one iteration; of several processes, each adds its own loss."""
        self.rows.append((iteration, loss.detach(), norm.detach()))

    def read(self) -> list[tuple[int, float, float]]:
        """(iteration, loss, norm) of each."""
        if not self.rows:
            return []
        iterations, losses, norms = zip(*self.rows, strict=True)
        values = average(torch.stack(losses)).tolist(), torch.stack(norms).tolist()
        return list(zip(iterations, *values, strict=True))

    def clear(self) -> None:
        """They have been shown."""
        self.rows.clear()


class Pace:
    """How fast training goes, and what share of the time it waits for data."""

    def __init__(self, start: int, batch_size: int) -> None:
        """Of a run that goes on after iteration `start`, with so many items in each."""
        self.batch_size = batch_size
        self.whole = (0, 0.0, 0.0)  # iterations, seconds, seconds waited
        self.restart(start)

    def restart(self, iteration: int) -> None:
        """Count from here on: what came before, such as an evaluation, says nothing of training."""
        self.iteration, self.began, self.waited = iteration, time.perf_counter(), 0.0

    def watch(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches; how long each keeps the loop waiting is noted."""
        began = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def read(self, iteration: int) -> dict[str, float]:
        """Of the iterations since it was restarted or read."""
        now = (iteration - self.iteration, time.perf_counter() - self.began, self.waited)
        iterations, seconds, waited = self.whole
        self.whole = (iterations + now[0], seconds + now[1], waited + now[2])
        self.restart(iteration)
        return self._figures(*now)

    def _figures(self, iterations: int, seconds: float, waited: float) -> dict[str, float]:
        return {
            "iterations_per_second": iterations / seconds,
            "items_per_second": iterations * self.batch_size / seconds,
            "data_wait": waited / seconds,
        }

    def tell(self, memory: dict[str, float]) -> None:
        """All that was read, in a line at the end of the run."""
        if not self.whole[0]:
            return
        rate, items, wait = self._figures(*self.whole).values()
        (gigabytes,) = memory.values()
        log.info(
            "%.3g iterations and %.3g items a second, %.0f %% of it waiting for data; "
            "%.2f GB of memory at the most",
            *(rate, items, 100 * wait, gigabytes),
        )


class ProgressBar:
    """A bar on a terminal, elsewhere a line per log interval; early on, how long it will take."""

    def __init__(self, total: int, start: int, estimate_after: int, device: str) -> None:
        self.total = total
        self.start = start
        self.estimate_after = estimate_after
        self.device = device
        self.first: float | None = None
        self.found: dict[str, float] = {}  # by the latest evaluation
        hidden = None if is_main() else True  # None: where there is no terminal
        columns = shutil.get_terminal_size().columns  # some terminals say 0, where tqdm is silent
        self.bar = tqdm(
            total=total, initial=start, desc="train", unit="it", disable=hidden, ncols=columns
        )
        self.redirect = logging_redirect_tqdm()

    def __enter__(self) -> Self:
        if not self.bar.disable:
            self.redirect.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.bar.disable:
            self.redirect.__exit__(None, None, None)
        self.bar.close()

    def step(self, iteration: int) -> None:
        """One iteration is done."""
        self.bar.update()
        done = iteration - self.start
        if self.first is None:
            self.first = time.perf_counter()
        elif done == self.estimate_after and iteration < self.total:
            each = (time.perf_counter() - self.first) / (done - 1)
            left = each * (self.total - iteration)
            log.info("about %s for %d iterations", duration(left), self.total - iteration)
            if left > SECONDS_PER_DAY and self.device == "cpu":
                log.warning("that is long on a CPU; for a quick look: model=tiny training=fastrun")

    def show(self, iteration: int, values: dict[str, float]) -> None:
        """The latest values, of those that the loop logs."""
        if not self.bar.disable:
            # a terminal's line is short: the loss, and what evaluation alone knows
            named = self.found | {name: values[name] for name in ("loss",) if name in values}
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in named.items()})
            return
        names = ("loss", "lr", "grad_norm", "iterations_per_second")  # metrics.jsonl has the rest
        shown = [f"{name} {values[name]:.4g}" for name in names if name in values]
        if rate := values.get("iterations_per_second"):
            shown.append(f"{duration((self.total - iteration) / rate)} left")
        log.info(" · ".join((f"iteration {iteration}/{self.total}", *shown)))

    def tell(self, iteration: int, values: dict[str, float]) -> None:
        """What an evaluation found."""
        self.found = values
        shown = " · ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("evaluation at iteration %d: %s", iteration, shown)


def duration(seconds: float) -> str:
    """A length of time for people: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * SECONDS_PER_DAY:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / SECONDS_PER_DAY:.1f} days"
