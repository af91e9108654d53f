"""metrics.jsonl: one JSON object a line with step, split and values, whatever the tracker."""

import json
import logging
import math
import os
from contextlib import suppress
from pathlib import Path

from pydantic_core import from_json

from ..distributed.collectives import is_main
from ..run_dir.paths import METRICS

log = logging.getLogger(__name__)


class MetricsFile:
    """Appends to metrics.jsonl."""

    def __init__(self, run_dir: Path, start: int, last_eval: int) -> None:
        """Drop the lines that the run repeats: after `start` or, for evaluations, `last_eval`."""
        self.path = run_dir / METRICS
        self.waiting = ""  # lines to write once a full disk has room
        if is_main() and self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            beside = self.path.with_suffix(".tmp")
            beside.write_bytes(b"".join(x for x in lines if _is_before(x, start, last_eval)))
            beside.replace(self.path)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one line; if the disk is full, write it with a later one."""
        if not is_main():
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.waiting += json.dumps({"step": step, "split": split, **finite}) + "\n"
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(self.waiting)
            self.waiting = ""
        except OSError as error:
            if self.waiting.count("\n") == 1:
                log.warning("%s: %s; training continues", self.path, error.strerror)
            with suppress(OSError):
                os.truncate(self.path, size)  # no half line


def _is_before(line: bytes, start: int, last_eval: int) -> bool:
    try:
        row = from_json(line)
        return bool(row["step"] <= (last_eval if row["split"] == "valid" else start))
    except (ValueError, KeyError, TypeError):
        return False  # half a line, from a run that was killed
