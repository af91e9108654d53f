"""mode=report: a page that compares runs, made from the files in their directories alone."""

import base64
import hashlib
import html
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from ..checkpoints.resume import TRAINED_ON
from ..config import Config
from ..errors import UserError, refuse
from ..overrides import identifying_overrides
from ..project import Project
from ..run_dir.lock import state
from ..run_dir.paths import CONFIG, RECORD, read_config, read_overrides, read_record, write_csv
from ..types import RESUME_SAFE, leaves, marked_keys

PAGE, TABLE = "report.html", "report.csv"
METRIC = "training.objective.metric"
POINTS = 200_000  # of all curves together: a page of some megabytes
NOT_COMPARED = {
    *("mode", "name", "runs_dir", "checkpoint", "input", "key", "format", "resume", "requeue"),
    *("sweep", "slurm", "engine"),
}
Curve = np.ndarray
"""Steps and values, a row of each."""


@dataclass
class Run:
    """One run, as its files record it."""

    project: Project
    directory: Path
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """The curve of the run's objective."""
        return f"valid/{self.values.get(METRIC, 'loss')}"

    @property
    def low_is_best(self) -> bool:
        """Whether a lower objective is better."""
        return self.project.goal(self.metric.removeprefix("valid/")) == "minimize"

    @property
    def data(self) -> str | None:
        """A short digest of the data that it was trained on."""
        read = [self.record.get("data", {}).get(split) for split in TRAINED_ON]
        return hashlib.sha256(repr(read).encode()).hexdigest()[:8] if any(read) else None

    @property
    def best(self) -> float | None:
        """The best value of its objective."""
        values = self.curves.get(self.metric, np.empty((2, 0)))[1]
        values = values[np.isfinite(values)]
        if not values.size or not self.values:  # without a config the objective is unknown
            return None
        return float(values.min() if self.low_is_best else values.max())


def compare_runs(project: Project, cfg: Config) -> None:
    """Write report.html and report.csv beside the runs. Raises UserError if there are none."""
    places = [Path(path) for path in cfg.input or [cfg.runs_dir]]
    refuse(
        f"input = {place}: {'no runs in it' if place.exists() else 'no such directory'}\n"
        "expected a run's directory, a sweep's, or one that holds some, such as runs"
        for place in places
        if not find_runs(place)
    )
    found = {run.resolve(): run for place in places for run in find_runs(place)}
    known = [read_run(project, run, Path(cfg.runs_dir)) for run in found.values()]
    folder = places[0] if len(places) == 1 else Path(cfg.runs_dir)
    if len({run.data for run in known if run.data}) > 1:
        known[0].remarks.append("not all runs were trained on the same data: see the column data")
    columns, rows = table(known, marked_keys(cfg, RESUME_SAFE))
    write_csv(folder / TABLE, [columns, *rows])
    title = f"{len(known)} runs in {', '.join(map(str, places))}"
    (folder / PAGE).write_text(page(title, known, columns, rows), "utf-8")
    for remark in (remark for run in known for remark in run.remarks):
        print(f"warning: {remark}", file=sys.stderr)
    print(f"{len(known)} {'run' if len(known) == 1 else 'runs'}")
    print(f"page   {folder / PAGE}\ntable  {folder / TABLE}")


def find_runs(place: Path, depth: int = 2) -> list[Path]:
    """The run directories of a place: itself, or those in it, the jobs of sweeps too."""
    if _is_run(place):
        return [place]
    inside = sorted(place.glob("*/")) if depth else []
    return [run for path in inside for run in find_runs(path, depth - 1)]


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in (CONFIG, RECORD, "metrics.jsonl"))


def read_run(project: Project, directory: Path, runs_dir: Path) -> Run:
    """A run, with a remark for each file that cannot be read."""
    name = directory.relative_to(runs_dir) if directory.is_relative_to(runs_dir) else directory
    run = Run(project, directory, str(name), record=read_record(directory))
    try:
        config = read_config(directory)
        run.values = dict(leaves(config)) if config else {}
        given = identifying_overrides(read_overrides(directory))
        run.overrides = {key: run.values.get(key, value[1:]) for _, key, value in given}
    except UserError as error:
        run.remarks.append(str(error))
    if not (directory / CONFIG).is_file():
        run.remarks.append(f"{directory}: no config.yaml, so its keys are not compared")
    if not run.record and (directory / RECORD).is_file():
        run.remarks.append(f"{directory / RECORD}: damaged")
    run.curves = read_curves(directory / "metrics.jsonl", run.remarks)
    return run


def read_curves(file: Path, remarks: list[str]) -> dict[str, Curve]:
    """The curves of a metrics.jsonl by split/name; damaged lines are left out."""
    points: dict[str, list[tuple[int, float]]] = {}
    damaged = 0
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        remarks.append(f"{file.parent}: no metrics yet")
        return {}
    for line in lines:
        try:
            row = from_json(line)
            step, split = int(row.pop("step")), str(row.pop("split"))
            values = {k: math.nan if v is None else float(v) for k, v in row.items()}
            if abs(step) >= 2**31:  # the page stores them in 32 bits
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            damaged += 1
            continue
        for name, value in values.items():
            points.setdefault(f"{split}/{name}", []).append((step, value))
    if damaged:
        remarks.append(f"{file}: {damaged} damaged of {len(lines)} lines, left out")
    return {key: np.array(pairs).T for key, pairs in points.items()}


def table(known: Sequence[Run], harmless: set[str]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: runs, results, keys that differ; `harmless` ones, such as speed, last."""
    metrics = dict.fromkeys(key for run in known for key in run.curves)
    metrics = dict.fromkeys(key for key in metrics if key[:6] == "valid/" or key == "train/loss")
    differ = differing(known)
    keys = [key for key in differ if key == METRIC or not _is_under(key, harmless)]
    others = [key for key in differ if key not in keys]
    # a column for each objective: values of different metrics do not compare
    objectives = dict.fromkeys(run.metric for run in known if run.values) or {"valid/loss": None}
    columns = ["run", "state", *(f"best {metric}" for metric in objectives), *keys, *metrics]
    columns += ["iteration", "seconds", "commit", "data", "began", *others]
    rows = []
    for run in known:
        last = [run.curves[m][1][-1].item() if m in run.curves else None for m in metrics]
        iteration = max((int(steps[-1]) for steps, _ in run.curves.values()), default=0)
        began = _entries(run.record)[0].get("began")
        about = [iteration, seconds(run), commit(run.record), run.data, began]
        best = [run.best if run.metric == metric else None for metric in objectives]
        values = [run.values.get(key) for key in keys]
        more = [run.values.get(key) for key in others]
        rows.append([run.name, state(run.directory), *best, *values, *last, *about, *more])
    return columns, rows


def differing(known: Sequence[Run]) -> list[str]:
    """The keys whose values differ between configs, or that a config lacks."""
    read = [run.values for run in known if run.values]
    there = dict.fromkeys(key for values in read for key in values)
    keys = [key for key in there if not _is_under(key, NOT_COMPARED)]
    return [key for key in keys if len({repr(values.get(key)) for values in read}) > 1]


def _is_under(key: str, sections: set[str]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def seconds(run: Run) -> float | None:
    """The training time in seconds, over all resumes; None without a record."""
    total = 0.0
    for entry in _entries(run.record):
        with suppress(KeyError, TypeError, ValueError, OSError):
            began = datetime.fromisoformat(entry["began"]).timestamp()
            if "ended" in entry:
                total += datetime.fromisoformat(entry["ended"]).timestamp() - began
            elif entry is run.record:  # killed, or running
                total += max(0.0, (run.directory / "metrics.jsonl").stat().st_mtime - began)
    return round(total) if run.record else None


def _entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [*record.get("earlier", []), record]


def commit(record: dict[str, Any]) -> str | None:
    """The short commit of the run, with + for uncommitted changes."""
    git = record.get("git") or {}
    more = "+" if git.get("uncommitted") else ""
    return git["commit"][:8] + more if git.get("commit") else None


def page(title: str, known: Sequence[Run], columns: list[str], rows: list[list[Any]]) -> str:
    """The page as HTML, with everything in it: it opens without a network."""
    from plotly.offline import get_plotlyjs

    curves = sum(len(run.curves) for run in known)
    share = max(2, POINTS // max(1, curves))
    judged = next((run for run in known if run.values), known[0])
    longest = max((len(steps) for run in known for steps, _ in run.curves.values()), default=0)
    data = {
        "columns": columns,
        "rows": rows,
        "curves": [{k: drawn(curve, share) for k, curve in run.curves.items()} for run in known],
        "metric": judged.metric,
        "lowFirst": judged.low_is_best,
        "thinned": share if longest > share else 0,
        "sweeps": list(sweeps(known)),
        "remarks": [remark for run in known for remark in run.remarks],
    }
    # a run may be called </script>
    text = to_json(data, inf_nan_mode="strings", fallback=str).decode().replace("<", "\\u003c")
    template = Template((Path(__file__).parent / "page.html").read_text("utf-8"))
    made = datetime.now().strftime("%Y-%m-%d %H:%M")
    names = {"title": html.escape(title), "made": made}
    return template.substitute(names, plotly=get_plotlyjs(), data=text)


def drawn(curve: Curve, points: int) -> dict[str, Any]:
    """A curve as plotly reads it; a long one is cut to the lowest and highest of each stretch."""
    values = curve[1]
    if len(values) > points:
        low, high = (np.where(np.isnan(values), fill, values) for fill in (np.inf, -np.inf))
        kept = {0, len(values) - 1}
        for part in np.array_split(np.arange(len(values)), max(1, points // 2)):
            kept |= {int(part[low[part].argmin()]), int(part[high[part].argmax()])}
        curve = curve[:, sorted(kept)]
    with np.errstate(over="ignore"):  # what 32 bits cannot hold is drawn as infinite
        packed = {"x": curve[0].astype("i4"), "y": curve[1].astype("f4")}
    return {
        axis: {"dtype": data.dtype.str[1:], "bdata": base64.b64encode(data.tobytes()).decode()}
        for axis, data in packed.items()
    }


def sweeps(known: Iterable[Run]) -> Iterator[dict[str, Any]]:
    """For each sweep and each swept key, the objectives of the jobs."""
    jobs: dict[Path, list[Run]] = {}
    for run in known:
        sweep = run.directory.parent
        if run.best is not None and any((sweep / f).is_file() for f in ("sweep.csv", "optuna.db")):
            jobs.setdefault(sweep, []).append(run)
    for sweep, of_sweep in jobs.items():
        for key in dict.fromkeys(key for run in of_sweep for key in run.overrides):
            values = [run.overrides.get(key) for run in of_sweep]
            if len(set(map(repr, values))) > 1:
                yield {
                    "sweep": sweep.name,
                    "key": key,
                    "metric": of_sweep[0].metric,
                    "x": values,
                    "y": [run.best for run in of_sweep],
                    "names": [run.name for run in of_sweep],
                }
