"""The progress of a run on the terminal."""

import logging
import shutil
import time
from contextlib import nullcontext
from typing import Any, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..distributed.collectives import is_main

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 24 * 60 * 60
ESTIMATE_AFTER = 5  # iterations; the first one is slow and does not count


class ProgressBar:
    """A bar on a terminal, elsewhere a line per log interval; early on, the time left."""

    def __init__(self, total: int, start: int, device: str) -> None:
        self.total, self.start, self.device = total, start, device
        self.first: float | None = None
        self.evaluated: dict[str, float] = {}
        hidden = None if is_main() else True  # None: hidden without a terminal
        columns = shutil.get_terminal_size().columns  # some report 0, which silences tqdm
        self.bar = tqdm(total=total, initial=start, desc="train", disable=hidden, ncols=columns)
        self.redirect = nullcontext() if self.bar.disable else logging_redirect_tqdm()

    def __enter__(self) -> Self:
        self.redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.redirect.__exit__(*error)
        self.bar.close()

    def step(self, iteration: int) -> None:
        """Advance by one iteration; estimate the time left once."""
        self.bar.update()
        done = iteration - self.start
        if self.first is None:
            self.first = time.perf_counter()
        elif done == min(ESTIMATE_AFTER, self.total // 2) and iteration < self.total:
            left = (time.perf_counter() - self.first) / (done - 1) * (self.total - iteration)
            log.info("about %s for %d iterations", format_duration(left), self.total - iteration)
            if left > SECONDS_PER_DAY and self.device == "cpu":
                log.warning("that is long on a CPU; for a quick look: model=tiny training=fastrun")

    def show(self, iteration: int, values: dict[str, float]) -> None:
        """Show the latest training values."""
        if not self.bar.disable:
            # a terminal's line is short: the first value, and the metrics of the evaluation
            shown = self.evaluated | dict(list(values.items())[:1])
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})
            return
        text = [f"{name} {value:.4g}" for name, value in values.items()]
        if rate := values.get("iterations_per_second"):
            text.append(f"{format_duration((self.total - iteration) / rate)} left")
        log.info(" · ".join((f"iteration {iteration}/{self.total}", *text)))

    def show_eval(self, iteration: int, values: dict[str, float]) -> None:
        """Show the result of an evaluation."""
        self.evaluated = values
        text = " · ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("evaluation at iteration %d: %s", iteration, text)


def format_duration(seconds: float) -> str:
    """A readable duration: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 100 * 60:
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
