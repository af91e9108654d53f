"""The table of a sweep, the best job or variant first: sweep.csv, and the terminal or JSON."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from .. import terminal
from ..compose.names import renames
from ..overrides import differing_keys, identifying_overrides, job_name
from ..project import Project
from ..run_dir.lock import state
from ..run_dir.paths import read_config, read_record, relative, write_csv
from ..statistics import REPEATS, rank, summarize
from .grid import Job, started_jobs

TABLE = "sweep.csv"
SHOWN_ROWS = 20


def print_table(project: Project, composed: DictConfig, unfinished: dict[Path, Job]) -> None:
    """Write sweep.csv; print it, the unfinished jobs, and the command line of the best job.

    Where jobs differ in the seed or the fold alone, variants are printed and the best two compared.
    """
    sweep_dir, metric = Path(composed.hydra.sweep.dir), composed.training.objective.metric
    known = {path: job.overrides for path, job in unfinished.items()}
    known |= started_jobs(project, sweep_dir)  # those of earlier commands too
    if not known:
        return
    rows, goal = list(_rows(known, metric, unfinished)), project.goal(metric)
    configs = map(renames(project.conf).to_compare, map(read_config, known))
    runs = ((row["variant"], cfg, row[metric]) for row, cfg in zip(rows, configs, strict=True))
    summaries, comparisons = summarize(runs, goal)
    rows.sort(key=lambda row: rank(row[metric], goal))
    if has_repeats := len(summaries) < len(rows):
        of_variant = {row["variant"]: row for row in summaries}
        rows = [row | of_variant[row["variant"]] for row in rows]
    columns = [name for name in rows[0] if has_repeats or name != "variant"]
    write_csv(sweep_dir / TABLE, [columns, *([row[name] for name in columns] for row in rows)])
    best = next(row for row in rows if row["variant"] == summaries[0]["variant"])
    run = sweep_dir / best["job"]
    given = identifying_overrides(known[run])
    kept = ["".join(it) for it in given if not has_repeats or it[1] not in REPEATS]
    command = shlex.join(["python", "train.py", *kept])
    if composed.format == "json":
        found = {"variants": summaries, "comparisons": comparisons if has_repeats else []}
        first = None if best[metric] is None else {"run": str(run), "command": command}
        reasons = {path.name: job.reason for path, job in unfinished.items()}
        about = {"metric": metric, "goal": goal, "best": first, "jobs": rows, "reasons": reasons}
        terminal.print_json(about | found)
        return
    shown, names = (summaries, [*summaries[0]]) if has_repeats else (rows, columns[1:])
    titles = {"mean": f"mean {metric}", "ci95": "± 95 %"}
    cells = ([_format(row[name]) for name in names] for row in shown[:SHOWN_ROWS])
    print()
    terminal.print_table(cells, [titles.get(name, name) for name in names])
    if len(shown) > SHOWN_ROWS:
        print(f"… and {len(shown) - SHOWN_ROWS} more")
    print(f"table: {relative(sweep_dir / TABLE)}")
    if has_repeats and comparisons:
        print(comparisons[0]["text"])
    for directory, job in unfinished.items():
        print(f"{job.state}: {directory.name}: {job.reason}")
    if best[metric] is not None:
        print(f"best: {relative(run)}\n  {command}")


def _format(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(
    known: dict[Path, list[str]], metric: str, unfinished: dict[Path, Job]
) -> Iterator[dict[str, Any]]:
    """A row for each known job."""
    given = map(identifying_overrides, known.values())
    found = [{key: value[1:] for _, key, value in overrides} for overrides in given]
    several = differing_keys(found)
    for path, values in zip(known, found, strict=True):
        now, job = state(path), unfinished.get(path)
        if job and (job.state != "in use" or now not in ("running", "finished")):
            now = job.state
        shown = {key: values.get(key, "") for key in several or values}
        name = job_name([f"{key}={value}" for key, value in shown.items() if key not in REPEATS])
        objective = read_record(path).get("objective")
        yield {"job": path.name, metric: objective, "state": now, **shown, "variant": name}
