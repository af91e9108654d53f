"""The progress of a run on the terminal."""

import logging
import time
from contextlib import ExitStack

from ..distributed.collectives import is_main
from ..terminal import bar, format_duration, format_values, shows_bars

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 24 * 60 * 60
ESTIMATE_AFTER = 5  # iterations; the first one is slow and does not count


class ProgressBar:
    """A bar on a terminal, elsewhere a line per log interval; early on, the time left."""

    def __init__(self, stack: ExitStack, total: int, start: int, device: str, metric: str) -> None:
        """The bar stays until `stack` is closed."""
        self.total, self.start, self.device, self.metric = total, start, device, metric
        self.first: float | None = None
        self.objective: dict[str, float] = {}
        self.is_shown = is_main() and shows_bars()
        if self.is_shown:
            self.update = stack.enter_context(bar("train", total, start))

    def step(self, iteration: int) -> None:
        """Advance to an iteration; estimate the time left once."""
        if self.is_shown:
            self.update(completed=iteration)
        done = iteration - self.start
        if self.first is None:
            self.first = time.perf_counter()
        elif done == min(ESTIMATE_AFTER, self.total // 2) and iteration < self.total:
            left = (time.perf_counter() - self.first) / (done - 1) * (self.total - iteration)
            if not self.is_shown:
                count = self.total - iteration
                log.info("about %s for %d iterations", format_duration(left), count)
            if left > SECONDS_PER_DAY and self.device == "cpu":
                text = "%s left, long for a CPU; for a quick look: model=tiny training=fastrun"
                log.warning(text, format_duration(left))

    def show(self, iteration: int, values: dict[str, float]) -> None:
        """Show the latest training values."""
        rate = values["iterations_per_second"]
        if self.is_shown:
            # a terminal's line is short: the first value, the objective, the speed
            first = dict(list(values.items())[:1])
            self.update(note=f"{format_values(first | self.objective)} · {rate:.3g} it/s")
            return
        shown, left = format_values(values), format_duration((self.total - iteration) / rate)
        log.info("iteration %d/%d · %s · %s left", iteration, self.total, shown, left)

    def show_eval(self, iteration: int, values: dict[str, float]) -> None:
        """Show the result of an evaluation."""
        self.objective = {self.metric: values[self.metric]}
        log.info("evaluation at iteration %d: %s", iteration, format_values(values))
