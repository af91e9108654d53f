"""The table of a sweep, the best job or variant first: sweep.csv, and the terminal or JSON."""

import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from .. import terminal
from ..overrides import differing_keys, identifying_overrides, job_key, job_name
from ..run_dir.lock import state
from ..run_dir.paths import read_config, read_overrides, read_record, relative, write_csv
from ..statistics import REPEATS, Variant, compare, rank
from ..types import leaves
from .grid import Job, started_jobs

if TYPE_CHECKING:
    from ..project import Project

TABLE = "sweep.csv"
SHOWN_ROWS = 20


class Row(NamedTuple):
    """A job: its cells of the table, its objective, and its variant."""

    cells: dict[str, Any]
    objective: float | None
    variant: Variant


def print_table(project: "Project", composed: DictConfig, unfinished: dict[Path, Job]) -> None:
    """Write sweep.csv; print it, the unfinished jobs, and the command line of the best job.

    Where jobs differ in the seed or the fold alone, variants are printed and the best two compared.
    """
    sweep_dir, metric = Path(composed.hydra.sweep.dir), composed.training.objective.metric
    rows, goal = list(_rows(sweep_dir, metric, unfinished)), project.goal(metric)
    if not rows:
        return
    sign = -1 if goal == "maximize" else 1
    rows.sort(key=lambda row: math.inf if row.objective is None else sign * row.objective)
    variants = rank((row.variant for row in rows), goal)
    repeated = len(variants) < len(rows)
    summaries = {id(it): it.summary() for it in variants}
    jobs = [row.cells | (summaries[id(row.variant)] if repeated else {}) for row in rows]
    write_csv(sweep_dir / TABLE, [list(jobs[0]), *(job.values() for job in jobs)])
    compared = [compare(variants[0], other) for other in variants[1:]] if repeated else []
    best = next(row for row in rows if row.variant is variants[0])
    run = sweep_dir / str(best.cells["job"])
    given = [
        "".join(parts)
        for parts in identifying_overrides(read_overrides(run / ".hydra"))
        if best.variant.runs == 1 or parts[1] not in REPEATS
    ]
    command = shlex.join(["python", "train.py", *given])
    if composed.format == "json":
        terminal.print_json(
            {
                "metric": metric,
                "goal": goal,
                "jobs": [row.cells | {"variant": row.variant.name} for row in rows],
                "variants": [*summaries.values()],
                "comparisons": compared,
                "best": None if best.objective is None else {"run": str(run), "command": command},
            }
        )
        return
    shown = [*summaries.values()] if repeated else [row.cells for row in rows]
    print()
    _print_rows(shown, metric)
    print(f"table: {relative(sweep_dir / TABLE)}")
    for comparison in compared[:1]:
        print(comparison["text"])
    for directory, job in unfinished.items():
        reason = (job.message.splitlines() or ["no message"])[0]
        print(f"{job.state}: {directory.name}: {reason}")
    if best.objective is not None:
        print(f"best: {relative(run)}\n  {command}")


def _print_rows(rows: list[dict[str, Any]], metric: str) -> None:
    names = {"mean": f"mean {metric}", "ci95": "± 95 %"}
    header = [name for name in rows[0] if name != "job"]
    cells = ([_shown(row[name]) for name in header] for row in rows[:SHOWN_ROWS])
    terminal.print_table(cells, [names.get(name, name) for name in header])
    if len(rows) > SHOWN_ROWS:
        print(f"… and {len(rows) - SHOWN_ROWS} more")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(sweep_dir: Path, metric: str, unfinished: dict[Path, Job]) -> Iterator[Row]:
    """A row for each job in the directory, from earlier commands and not started ones too."""
    known = {path: job.overrides for path, job in unfinished.items()} | started_jobs(sweep_dir)
    found = {
        path: {key: value[1:] for _, key, value in identifying_overrides(overrides)}
        for path, overrides in known.items()
    }
    several = differing_keys(found.values())
    variants: dict[frozenset[str], Variant] = {}
    for path, values in found.items():
        now, job = state(path), unfinished.get(path)
        if job and (job.state != "in use" or now not in ("running", "finished")):
            now = job.state
        objective = read_record(path).get("objective")
        kept = [f"{key}={value}" for key, value in values.items() if key not in REPEATS]
        name = job_name([it for it in kept if it.partition("=")[0] in several])
        variant = variants.setdefault(job_key(kept), Variant(name))
        variant.add(dict(leaves(read_config(path))), objective)
        cells = {"job": path.name, metric: objective, "state": now}
        others = {key: values.get(key, "") for key in several or values}
        yield Row(cells | others, objective, variant)
