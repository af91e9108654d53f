"""metrics.jsonl, and what a run shows while it goes on."""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self

import torch
from pydantic_core import from_json
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..data import Batch
from .processes import average, is_main

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 24 * 60 * 60


class MetricsFile:
    """One JSON object a line: step, split, values. Always written, whatever the tracker."""

    def __init__(self, run_dir: Path, start: int, evaluated: int) -> None:
        """Drop the lines after iteration `start` (the last `evaluated`): the run repeats them."""
        self.path = run_dir / "metrics.jsonl"
        self.waiting = ""  # lines that a full disk did not take
        if is_main() and self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            beside = self.path.with_suffix(".tmp")
            beside.write_bytes(b"".join(x for x in lines if _is_before(x, start, evaluated)))
            beside.replace(self.path)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one line; where the disk is full, with a later one."""
        if not is_main():
            return
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "split": split, **shown}) + "\n"
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(self.waiting + line)
        except OSError as error:
            if not self.waiting:
                log.warning("%s: %s; the run goes on", self.path, error.strerror)
            self.waiting += line
            with suppress(OSError):
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
    """Loss and gradient norm since the last log, on the device: reading them waits for it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Tensor, Tensor]] = []

    def add(self, iteration: int, loss: Tensor, norm: Tensor) -> None:
        """Note an iteration; each of several processes adds its own loss."""
        self.rows.append((iteration, loss.detach(), norm.detach()))

    def read(self) -> list[tuple[int, float, float]]:
        """(iteration, loss, norm) of each."""
        if not self.rows:
            return []
        iterations, losses, norms = zip(*self.rows, strict=True)
        values = average(torch.stack(losses)).tolist(), torch.stack(norms).tolist()
        return list(zip(iterations, *values, strict=True))


class Pace:
    """How fast training goes, and what share of the time it waits for data."""

    def __init__(self, start: int, batch_size: int) -> None:
        self.batch_size = batch_size
        self.whole = [0.0, 0.0, 0.0]  # iterations, seconds, seconds waited
        self.restart(start)

    def restart(self, iteration: int) -> None:
        """Count from here on, as after an evaluation, which says nothing of training."""
        self.iteration, self.began, self.waited = iteration, time.perf_counter(), 0.0

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; note how long each keeps the loop waiting."""
        began = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def read(self, iteration: int) -> dict[str, float]:
        """The pace since it was restarted or read."""
        now = (iteration - self.iteration, time.perf_counter() - self.began, self.waited)
        self.whole = [*map(sum, zip(self.whole, now, strict=True))]
        self.restart(iteration)
        return self._figures(*now)

    def _figures(self, iterations: float, seconds: float, waited: float) -> dict[str, float]:
        return {
            "iterations_per_second": iterations / seconds,
            "items_per_second": iterations * self.batch_size / seconds,
            "data_wait": waited / seconds,
        }

    def tell(self, memory: dict[str, float]) -> None:
        """Log all that was read, in a line at the end of the run."""
        if not self.whole[0]:
            return
        figures = self._figures(*self.whole) | memory
        figures["data_wait"] *= 100
        text = "%.3g iterations, %.3g items a second, %.0f %% of it waiting for data; %.2f GB used"
        log.info(text, *figures.values())


class ProgressBar:
    """A bar on a terminal, elsewhere a line per log interval; early on, how long it will take."""

    def __init__(self, total: int, start: int, estimate_after: int, device: str) -> None:
        self.total, self.start = total, start
        self.estimate_after, self.device = estimate_after, device
        self.first: float | None = None
        self.found: dict[str, float] = {}  # by the latest evaluation
        hidden = None if is_main() else True  # None: where there is no terminal
        columns = shutil.get_terminal_size().columns  # some terminals say 0, where tqdm is silent
        self.bar = tqdm(total=total, initial=start, desc="train", disable=hidden, ncols=columns)
        self.redirect = nullcontext() if self.bar.disable else logging_redirect_tqdm()

    def __enter__(self) -> Self:
        self.redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.redirect.__exit__(*error)
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
    if seconds < 100 * 60:
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
