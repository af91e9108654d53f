"""The table of a sweep, the best job first: sweep.csv, and a short one on the terminal."""

import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from .. import terminal
from ..overrides import identifying_overrides
from ..run_dir.lock import state
from ..run_dir.paths import read_record, relative, write_csv
from .grid import Job, started_jobs

if TYPE_CHECKING:
    from ..project import Project

TABLE = "sweep.csv"
SHOWN_ROWS = 20


def print_table(project: "Project", composed: DictConfig, unfinished: dict[Path, Job]) -> None:
    """Write sweep.csv; print it, the unfinished jobs, and the command line of the best job."""
    sweep_dir, metric = Path(composed.hydra.sweep.dir), composed.training.objective.metric
    started = started_jobs(project, sweep_dir)
    rows = list(_rows(started, metric, unfinished))
    if not rows:
        return
    sign = -1 if project.goal(metric) == "maximize" else 1
    rows.sort(key=lambda row: math.inf if row[metric] is None else sign * row[metric])
    write_csv(sweep_dir / TABLE, [list(rows[0]), *(row.values() for row in rows)])
    header = [name for name in rows[0] if name != "job"]
    shown = [
        row | {metric: "" if row[metric] is None else f"{row[metric]:.4g}"}
        for row in rows[:SHOWN_ROWS]
    ]
    print()
    terminal.print_table(([row[name] for name in header] for row in shown), header)
    if len(rows) > SHOWN_ROWS:
        print(f"… and {len(rows) - SHOWN_ROWS} more")
    print(f"table: {relative(sweep_dir / TABLE)}")
    for directory, job in unfinished.items():
        reason = (job.message.splitlines() or ["no message"])[0]
        print(f"{job.state}: {directory.name}: {reason}")
    if rows[0][metric] is not None:
        best = sweep_dir / str(rows[0]["job"])
        given = ["".join(parts) for parts in identifying_overrides(started[best])]
        print(f"best: {relative(best)}")
        print(f"  {shlex.join(['python', 'train.py', *given])}")


def _rows(
    started: dict[Path, list[str]], metric: str, unfinished: dict[Path, Job]
) -> Iterator[dict[str, Any]]:
    """A row for each job in the directory, from earlier commands and not started ones too."""
    known = {path: job.overrides for path, job in unfinished.items()} | started
    found = {
        path: {key: value[1:] for _, key, value in identifying_overrides(overrides)}
        for path, overrides in known.items()
    }
    keys = dict.fromkeys(key for values in found.values() for key in values)
    several = [key for key in keys if len({v.get(key, "") for v in found.values()}) > 1]
    for path, values in found.items():
        now, job = state(path), unfinished.get(path)
        if job and (job.state != "in use" or now not in ("running", "finished")):
            now = job.state
        yield {
            "job": path.name,
            metric: read_record(path).get("objective"),
            "state": now,
            **{key: values.get(key, "") for key in several or list(keys)},
        }
