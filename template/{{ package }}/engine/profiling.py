# Kept by the template; an update merges what you change here.
"""training.run.profile: a trace of a few iterations, and a table of where their time went."""

import logging
import os
from pathlib import Path
from typing import Self

import torch
from torch.profiler import ProfilerActivity, profile

from ..config.training import Training
from .processes import is_main

log = logging.getLogger(__name__)

FOLDER, TRACE, TABLE = "profile", "trace.json.gz", "table.txt"


class Profiler:
    """Watches training.profiler.record iterations of the main process, if it is asked to."""

    def __init__(self, training: Training, run_dir: Path, device: torch.device, left: int) -> None:
        """Of a run with so many iterations `left`."""
        self.settings = training.profiler
        self.folder = run_dir / FOLDER
        self.device = device
        self.last = self.settings.wait + self.settings.record
        self.done = 0
        self.running: profile | None = None
        self.wanted = training.run.profile and is_main()
        if self.wanted and left < self.last:
            self.wanted = False
            log.warning("no profile: %d iterations are left, and it takes %d", left, self.last)

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.running.stop()
            log.warning("no profile: the run ends before %d more iterations", self.last - self.done)

    def step(self) -> None:
        """One iteration is done."""
        self.done += 1
        self._look()

    def _look(self) -> None:
        if self.wanted and self.done == self.settings.wait:
            gpu = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # its own lines on standard error
            self.running = profile(activities=[ProfilerActivity.CPU, *gpu])
            self.running.start()
        elif self.running and self.done == self.last:
            self.running.stop()
            self._write(self.running)
            self.running = None

    def _write(self, done: profile) -> None:
        table = "\n".join(self._table(done))
        try:
            self.folder.mkdir(exist_ok=True)
            done.export_chrome_trace(str(self.folder / TRACE))
            (self.folder / TABLE).write_text(table + "\n", "utf-8")
        except (OSError, RuntimeError) as error:  # a full disk
            log.warning("%s: the profile could not be written: %s", self.folder, error)
        log.info("%s", table)
        log.info("%s: open it in https://ui.perfetto.dev or chrome://tracing", self.folder / TRACE)

    def _table(self, done: profile) -> list[str]:
        record, on_gpu = self.settings.record, self.device.type == "cuda"
        lines = [f"where the time of {record} iterations went, on the {self.device.type}"]
        lines.append(f"{'share':>6}  {'ms each':>8}  {'calls':>5}  what")
        own = {
            average.key: (average.self_device_time_total, average.count)
            if on_gpu
            else (average.self_cpu_time_total, average.count)
            for average in done.key_averages()
        }
        total = sum(microseconds for microseconds, _ in own.values()) or 1.0
        longest = sorted(own.items(), key=lambda item: item[1], reverse=True)
        for name, (microseconds, calls) in longest[: self.settings.rows]:
            share, each = 100 * microseconds / total, microseconds / record / 1000
            count = round(calls / record)
            lines.append(f"{share:>5.1f}%  {each:>8.2f}  {count:>5}  {name[:80]}")
        return lines
