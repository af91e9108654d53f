"""training.run.profile: a trace of a few iterations, and a table of where their time went."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import profile, schedule

from ..config import Config
from ..distributed.collectives import is_main

log = logging.getLogger(__name__)

ROWS = 12  # of the table, so that it fits on a terminal


@contextmanager
def profiler(cfg: Config, run_dir: Path, device: str, left: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each iteration; `left` iterations remain."""
    settings, folder = cfg.engine.profiler, run_dir / "profile"
    if not cfg.training.run.profile or not is_main():
        yield lambda: None
        return

    def write(done: profile) -> None:
        longest = f"self_{device}_time_total"
        table = done.key_averages().table(longest, ROWS, max_name_column_width=50)
        try:
            folder.mkdir(exist_ok=True)
            done.export_chrome_trace(str(folder / "trace.json.gz"))
            (folder / "table.txt").write_text(table, "utf-8")
        except (OSError, RuntimeError) as error:  # a full disk
            log.warning("%s: the profile could not be written: %s", folder, error)
            return
        log.info("%s", table)
        log.info("%s/trace.json.gz: open it in https://ui.perfetto.dev or chrome://tracing", folder)

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # silence its lines on standard error
    record = min(settings.record, left)
    wait = min(settings.wait, left - record)
    warmup = min(1, wait)
    when = schedule(wait=wait - warmup, warmup=warmup, active=record, repeat=1)
    with profile(schedule=when, on_trace_ready=write) as running:
        yield running.step
