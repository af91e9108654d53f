"""Reads runs from the files in their directories, as far as they can be read."""

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json

from ..checkpoints.resume import TRAINED_ON
from ..compose.names import renames
from ..errors import UserError
from ..overrides import identifying_overrides
from ..project import Goal, Project
from ..run_dir.paths import CONFIG, METRICS, RECORD, read_config, read_overrides, read_record

METRIC = "training.objective.metric"
Curve = np.ndarray
"""Steps and values, a row of each."""


@dataclass
class Run:
    """One run, as its files record it."""

    directory: Path
    name: str
    metric: str = "valid/loss"
    """The curve of its objective."""
    goal: Goal = "minimize"
    values: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    evaluated: dict[str, float] = field(default_factory=dict)
    """Results of mode=evaluate by split/metric, the newest of each."""
    remarks: list[str] = field(default_factory=list)

    @property
    def best(self) -> tuple[float | None, int | None]:
        """The best value of its objective, and the iteration of it."""
        steps, values = self.curves.get(self.metric, np.empty((2, 0)))
        kept = np.isfinite(values)
        if not kept.any() or not self.values:  # without a config the objective is unknown
            return None, None
        i = int((values[kept] if self.goal == "minimize" else -values[kept]).argmin())
        return float(values[kept][i]), int(steps[kept][i])

    @property
    def iteration(self) -> int:
        """The last iteration with a metric."""
        return max((int(steps[-1]) for steps, _ in self.curves.values()), default=0)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The records of its starts, the first one first."""
        return [*self.record.get("earlier", []), self.record]

    @property
    def seconds(self) -> int | None:
        """The training time in seconds, over all resumes; None without a record."""
        total = 0.0
        for entry in self.entries:
            with suppress(KeyError, TypeError, ValueError, OSError):
                began = datetime.fromisoformat(entry["began"]).timestamp()
                if "ended" in entry:
                    total += datetime.fromisoformat(entry["ended"]).timestamp() - began
                elif entry is self.record:  # killed, or running
                    total += max(0.0, (self.directory / METRICS).stat().st_mtime - began)
        return max(1, round(total)) if self.record else None  # times are whole seconds

    @property
    def commit(self) -> str | None:
        """The short commit of the run, with + for uncommitted changes."""
        git = self.record.get("git") or {}
        more = "+" if git.get("uncommitted") else ""
        return git["commit"][:8] + more if git.get("commit") else None

    @property
    def code(self) -> str | None:
        """A short digest of its code, and of each other code that it resumed with."""
        found = dict.fromkeys(it["identity"]["code"][:8] for it in self.entries if "identity" in it)
        return " then ".join(found) or None

    @property
    def data(self) -> str | None:
        """A short digest of the data that it was trained on."""
        read = [self.record.get("data", {}).get(split) for split in TRAINED_ON]
        return hashlib.sha256(repr(read).encode()).hexdigest()[:8] if any(read) else None


def find_runs(place: Path, depth: int = 2) -> list[Path]:
    """The run directories of a place: itself, or those in it, the jobs of sweeps too."""
    if any((place / name).is_file() for name in (CONFIG, RECORD, METRICS)):
        return [place]
    inside = sorted(it for it in place.glob("*/") if it.name[0] != ".") if depth else []
    return [run for path in inside for run in find_runs(path, depth - 1)]


def read_run(project: Project, directory: Path, runs_dir: Path) -> Run:
    """A run, with a remark for each file that cannot be read."""
    name = directory.relative_to(runs_dir) if directory.is_relative_to(runs_dir) else directory
    run = Run(directory, str(name), record=read_record(directory))
    try:
        config = read_config(directory)
        names = renames(project.conf)
        run.values = names.to_compare(config) if config else {}
        metric = str(run.values.get(METRIC, "loss"))
        run.metric, run.goal = f"valid/{metric}", project.goal(metric)
        given = identifying_overrides(map(names.override, read_overrides(directory)))
        run.overrides = {key: run.values.get(key, value[1:]) for _, key, value in given}
    except UserError as error:
        run.remarks.append(str(error))
    if not (directory / CONFIG).is_file():
        run.remarks.append(f"{directory}: no config.yaml, so its keys are not compared")
    if not run.record and (directory / RECORD).is_file():
        run.remarks.append(f"{directory / RECORD}: damaged")
    if not (directory / METRICS).is_file():
        run.remarks.append(f"{directory}: no metrics yet")
    run.curves = read_curves(directory / METRICS, run.remarks)
    results = directory.glob("evaluate/*/metrics.json")
    for file in sorted(results, key=lambda file: file.stat().st_mtime):
        run.evaluated |= {k: c[1, -1].item() for k, c in read_curves(file, run.remarks).items()}
    return run


def read_curves(file: Path, remarks: list[str]) -> dict[str, Curve]:
    """The curves of a metrics.jsonl, or the points of a metrics.json, by split/name.

    Damaged lines are left out.
    """
    text = file.read_bytes() if file.is_file() else b""
    lines = [text] if file.suffix == ".json" else text.splitlines()
    points: dict[str, list[tuple[float, float]]] = {}
    damaged = 0
    for line in lines:
        try:
            row = from_json(line)
            step, split = float(int(row.pop("step"))), str(row.pop("split"))
            row.pop("checkpoint", None)
            values = {k: math.nan if v is None else float(v) for k, v in row.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            damaged += 1
            continue
        for name, value in values.items():
            points.setdefault(f"{split}/{name}", []).append((step, value))
    if damaged:
        remarks.append(f"{file}: {damaged} damaged of {len(lines)} lines, left out")
    return {key: np.array(pairs).T for key, pairs in points.items()}
