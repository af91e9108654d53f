"""mode=report: a page and a table that compare runs, made from the files in their directories."""

import html
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from pydantic_core import to_json

from ..compose.names import renames
from ..config import Config
from ..errors import refuse
from ..overrides import as_yaml, differing_keys, job_name, leaves
from ..project import Project
from ..run_dir.lock import state
from ..run_dir.paths import SEARCH_SUMMARY, write_csv
from ..statistics import REPEATS, rank, summarize
from ..terminal import print_json
from ..types import RESUME_SAFE, marked_keys
from .read import METRIC, Curve, Run, find_runs, read_run

PAGE, TABLE = "report.html", "report.csv"
POINTS = 200_000  # of all curves together: a page of some megabytes
NOT_COMPARED = {
    *("mode", "name", "runs_dir", "checkpoint", "input", "key", "format", "resume", "code"),
    *("sweep", "slurm", "wait", "engine"),
}
FILES = ("config.yaml", "record.json", "metrics.jsonl", "train.log", "uncommitted.diff")
SWEEP_FILES = ("sweep.csv", "optuna.db")
BULKY = {"packages", "overrides", "data", "earlier"}  # of a record: record.json has them


def compare_runs(project: Project, cfg: Config) -> None:
    """Write report.html and report.csv beside the runs. Raises UserError if there are none."""
    places = [Path(path) for path in cfg.input or [cfg.runs_dir]]
    key = "input" if cfg.input else "runs_dir"
    refuse(
        f"{key} = {place}: {'no runs in it' if place.exists() else 'no such directory'}\n"
        "expected a run's directory, a sweep's, or one that holds some, such as runs"
        for place in places
        if not find_runs(place)
    )
    found = {run.resolve(): run for place in places for run in find_runs(place)}
    known = [read_run(project, run, Path(cfg.runs_dir)) for run in found.values()]
    known.sort(key=lambda run: (run.metric, rank(run.best[0], run.goal)))
    folder = places[0] if len(places) == 1 else Path(cfg.runs_dir)
    read = {(run.values.get("data.fold"), run.data) for run in known if run.data}
    if len(read) > len(dict(read)):  # two digests for one fold
        known[0].remarks.append("not all runs were trained on the same data: see the column data")
    names = renames(project.conf)
    gone = {key: run for run in known for key in run.values | run.overrides if names.is_gone(key)}
    for key, run in gone.items():
        run.remarks.append(f"{run.name} recorded {key}; {names.hint(key)}")
    if len({run.code for run in known if run.code}) > 1:
        known[0].remarks.append("not all runs used the same code: see the column code")
    safe = marked_keys(cfg, RESUME_SAFE)
    columns, cells = zip(*table_columns(known, safe), strict=True)
    rows, variants = list(zip(*cells, strict=True)), summarize_variants(known, safe)
    write_csv(folder / TABLE, [columns, *rows])
    count = "1 run" if len(known) == 1 else f"{len(known)} runs"
    title = f"{count} in {', '.join(map(str, places))}"
    now = {key: value for key, value in leaves(cfg.model_dump()) if _is_compared(key)}
    data = {"columns": columns, "rows": rows, "now": now, **variants}
    (folder / PAGE).write_text(render_page(title, folder, known, data), "utf-8")
    for remark in (remark for run in known for remark in run.remarks):
        print(f"warning: {remark}", file=sys.stderr)
    if cfg.format == "json":
        print_json({"runs": [dict(zip(columns, row, strict=True)) for row in rows], **variants})
        return
    lines = [count, *search_notes(known), *(it["text"] for it in variants["comparisons"])]
    print(*lines, f"page   {folder / PAGE}", f"table  {folder / TABLE}", sep="\n")


def table_columns(known: Sequence[Run], safe: set[str]) -> Iterator[tuple[str, list[Any]]]:
    """The table's columns: results, then keys that differ; `safe` ones, such as speed, last."""
    yield "run", [run.name for run in known]
    yield "state", [state(run.directory) for run in known]
    # a column for each objective: values of different metrics do not compare
    for metric in dict.fromkeys(run.metric for run in known if run.values) or ["valid/loss"]:
        yield f"best {metric}", [run.best[0] if run.metric == metric else None for run in known]
    yield "at iteration", [run.best[1] for run in known]
    for key in dict.fromkeys(key for run in known for key in run.evaluated):
        yield f"evaluate {key}", [run.evaluated.get(key) for run in known]
    for key in sorted({key for run in known for key in run.curves}, reverse=True):
        if key.startswith("valid/") or key == "train/loss":
            last = [run.curves[key][1, -1].item() if key in run.curves else None for run in known]
            yield key, last
    differ = find_differing_keys(known)
    others = [key for key in differ if key != METRIC and _is_under(key, safe)]
    for key in (key for key in differ if key not in others):
        yield key, [run.values.get(key) for run in known]
    for name in ("iteration", "seconds", "commit", "code", "data"):
        yield name, [getattr(run, name) for run in known]
    yield "began", [run.entries[0].get("began") for run in known]
    for key in others:
        yield key, [run.values.get(key) for run in known]


def find_differing_keys(known: Iterable[Run]) -> list[str]:
    """The keys whose values differ between configs, or that a config lacks."""
    keys = differing_keys([run.values for run in known if run.values])
    return [key for key in keys if _is_compared(key)]


def summarize_variants(known: Sequence[Run], safe: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Finished runs that differ in the seed or the fold alone, by objective, the best first."""
    keys = [key for key in find_differing_keys(known) if not _is_under(key, {*safe, *REPEATS})]
    found: dict[tuple[str, str], list[tuple[str, dict[str, Any], float]]] = {}
    for run in sorted(known, key=lambda run: str(run.entries[0].get("began"))):
        if run.values and run.record.get("objective") is not None:
            name = job_name([f"{key}={as_yaml(run.values.get(key))}" for key in keys])
            runs = found.setdefault((run.metric, run.goal), [])
            runs.append((name, run.values, run.record["objective"]))
    summaries, comparisons = [], []
    for (metric, goal), runs in found.items():
        rows, compared = summarize(runs, goal)
        summaries += [{"metric": metric, **row} for row in rows]
        comparisons += [{"metric": metric, **it} for it in compared[:1] if it["n"] > 1]
    return {"variants": summaries, "comparisons": comparisons}


def _is_compared(key: str) -> bool:
    return not _is_under(key, NOT_COMPARED)


def _is_under(key: str, sections: set[str]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def render_page(title: str, folder: Path, known: Sequence[Run], data: dict[str, Any]) -> str:
    """The page as HTML. Only plots and files of the runs are linked.

    `data` has the table's columns and rows, the variants and their comparisons, and today's config.
    """
    from plotly.offline import get_plotlyjs

    share = max(2, POINTS // max(1, sum(len(run.curves) for run in known)))
    judged = next((run for run in known if run.values), known[0])
    data = data | {
        "runs": [describe_run(run, folder, data["now"]) for run in known],
        "curves": [{k: thin_curve(c, share) for k, c in run.curves.items()} for run in known],
        "metric": judged.metric,
        "lowFirst": judged.goal == "minimize",
        "sweeps": list(collect_sweeps(known)),
        "remarks": [*(remark for run in known for remark in run.remarks), *search_notes(known)],
    }
    # a run may be called </script>
    text = to_json(data, inf_nan_mode="strings", fallback=str).decode().replace("<", "\\u003c")
    page = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    names = {"title": html.escape(title), "made": f"{datetime.now():%Y-%m-%d %H:%M}"}
    return page.substitute(names, plotly=get_plotlyjs(), data=text)


def describe_run(run: Run, folder: Path, now: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of one run, and its config as far as it differs from today's."""
    results = [sorted(folder.glob("*/")) for folder in sorted(run.directory.glob("[a-z]*/"))]
    latest = [run.directory, *(folders[-1] for folders in results if folders)]
    plots = [plot for place in latest for plot in sorted(place.glob("*.png"))]
    files = [run.directory / name for name in FILES if (run.directory / name).is_file()]
    keys = [key for key in now | run.values if _is_compared(key)]
    minutes = run.seconds and run.iteration and run.seconds / 60 / run.iteration
    return {
        "command": run.record.get("reproduce"),
        "record": {key: value for key, value in run.record.items() if key not in BULKY},
        "files": [quote(os.path.relpath(file, folder)) for file in files],
        "plots": [quote(os.path.relpath(plot, folder)) for plot in plots],
        "config": {k: run.values.get(k) for k in keys if run.values.get(k) != now.get(k)},
        "scale": {"items": run.values.get("training.loader.batch_size"), "minutes": minutes},
    }


def thin_curve(curve: Curve, points: int) -> list[list[float | None]]:
    """Steps and values; of a long curve the lowest and highest of each stretch."""
    values = curve[1]
    if len(values) > points:
        low, high = (np.where(np.isnan(values), fill, values) for fill in (np.inf, -np.inf))
        kept = {0, len(values) - 1}
        for part in np.array_split(np.arange(len(values)), max(1, points // 2)):
            kept |= {int(part[low[part].argmin()]), int(part[high[part].argmax()])}
        curve = curve[:, sorted(kept)]
    steps, values = curve
    short = [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
    return [steps.tolist(), short]


def search_notes(known: Iterable[Run]) -> Iterator[str]:
    """What each search found out about its space."""
    for sweep in dict.fromkeys(run.directory.parent for run in known):
        if (file := sweep / SEARCH_SUMMARY).is_file():
            lines = file.read_text("utf-8", "replace").splitlines()
            yield from (f"{sweep.name}: {line}" for line in lines)


def collect_sweeps(known: Iterable[Run]) -> Iterator[dict[str, Any]]:
    """Each sweep's swept keys and objectives, for each metric that its jobs have as objective."""
    jobs: dict[tuple[Path, str], list[Run]] = {}
    for run in known:
        sweep = run.directory.parent
        if run.best[0] is not None and any((sweep / f).is_file() for f in SWEEP_FILES):
            jobs.setdefault((sweep, run.metric), []).append(run)
    for (sweep, metric), of_sweep in jobs.items():
        keys = differing_keys([run.overrides for run in of_sweep])
        yield {
            "sweep": sweep.name,
            "metric": metric,
            "keys": {key: [run.overrides.get(key) for run in of_sweep] for key in keys},
            "y": [run.best[0] for run in of_sweep],
            "names": [run.name for run in of_sweep],
        }
