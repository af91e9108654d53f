"""training.run.profile: a trace of a few iterations, and a table of where their time went."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.profiler import profile, schedule

from ..config.training import Training
from .processes import is_main

log = logging.getLogger(__name__)

FOLDER, TRACE, TABLE = "profile", "trace.json.gz", "table.txt"


@contextmanager
def profiler(
    training: Training, run_dir: Path, device: torch.device, left: int
) -> Iterator[Callable[[], None]]:
    """What to call after each iteration; `left` is the number of iterations still to come."""
    settings = training.profiler
    needed = settings.wait + settings.record
    wanted = training.run.profile and is_main()
    if wanted and left < needed:
        log.warning("no profile: %d iterations are left, and it takes %d", left, needed)
    if not wanted or left < needed:
        yield lambda: None
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # its own lines on standard error
    warmup = min(1, settings.wait)
    when = schedule(wait=settings.wait - warmup, warmup=warmup, active=settings.record, repeat=1)
    write = partial(_write, folder=run_dir / FOLDER, device=device.type, rows=settings.rows)
    with profile(schedule=when, on_trace_ready=write) as running:
        yield running.step


def _write(done: profile, folder: Path, device: str, rows: int) -> None:
    table = done.key_averages().table(f"self_{device}_time_total", rows, max_name_column_width=50)
    try:
        folder.mkdir(exist_ok=True)
        done.export_chrome_trace(str(folder / TRACE))
        (folder / TABLE).write_text(table, "utf-8")
    except (OSError, RuntimeError) as error:  # a full disk
        log.warning("%s: the profile could not be written: %s", folder, error)
        return
    log.info("%s", table)
    log.info("%s: open it in https://ui.perfetto.dev or chrome://tracing", folder / TRACE)
