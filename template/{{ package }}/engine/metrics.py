"""metrics.jsonl, and what a run shows while it goes on."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 24 * 60 * 60


class MetricsFile:
    """One JSON object a line: step, split, values. Always written, whatever the tracker."""

    def __init__(self, run_dir: Path, start: int) -> None:
        path = run_dir / "metrics.jsonl"
        if path.exists():  # a resumed run repeats the steps after its checkpoint: drop them
            lines = path.read_text().splitlines(keepends=True)
            beside = path.with_suffix(".tmp")
            beside.write_text("".join(line for line in lines if _step(line) <= start))
            beside.replace(path)
        self.file = path.open("a", buffering=1)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one line."""
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, "split": split, **shown}) + "\n")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # half a line, from a run that was killed


class ProgressBar:
    """A bar on a terminal, elsewhere a line per log interval; early on, how long it will take."""

    def __init__(self, total: int, start: int, estimate_after: int, device: str) -> None:
        self.total = total
        self.start = start
        self.estimate_after = estimate_after
        self.device = device
        self.first: float | None = None
        self.last = (start, time.perf_counter())
        self.bar = tqdm(total=total, initial=start, desc="train", unit="it", disable=None)
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

    def rate(self, iteration: int) -> float:
        """Iterations per second since this was last asked."""
        now = time.perf_counter()
        iterations, seconds = iteration - self.last[0], now - self.last[1]
        self.last = (iteration, now)
        return iterations / seconds

    def show(self, iteration: int, values: dict[str, float]) -> None:
        """The latest values."""
        if not self.bar.disable:
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})
            return
        left = duration((self.total - iteration) / values["iterations_per_second"])
        shown = " · ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("iteration %d/%d · %s · %s left", iteration, self.total, shown, left)

    def tell(self, iteration: int, values: dict[str, float]) -> None:
        """What an evaluation found."""
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
