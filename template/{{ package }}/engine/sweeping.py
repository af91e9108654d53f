"""--multirun: which jobs there are, where each works, and how they compare. No torch here."""

import contextlib
import hashlib
import importlib.util
import itertools
import logging
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from . import runs
from .aliases import split_override
from .composing import CONF, compose
from .errors import told_plainly
from .launching import IN_USE, PART_OF_A_SWEEP, how_it_ended
from .manifest import goal_of

log = logging.getLogger(__name__)

TABLE = "sweep.csv"
SHOWN_ROWS = 20


@dataclass
class Job:
    """One job of a sweep: what is overridden for it, where it works, and why it did not finish."""

    overrides: list[str]
    directory: Path
    state: str = ""  # failed, timed out, cancelled, lost, or in use by another process
    said: str = ""


class Sweeper(HydraSweeper):
    """Starts what is not finished yet and tells how it all compares."""

    def __init__(self, params: DictConfig) -> None:
        self.params = params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.composed = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @told_plainly()
    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs. Leaves with status 1 unless all finish."""
        Path(self.composed.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        from .checking import Checker

        overrides = [*search_space(self.params, arguments), *arguments]
        checker = Checker(CONF, {})

        def run(jobs: list[Job]) -> dict[Path, Job]:
            return run_jobs(self.launcher, jobs, checker, self.composed.sweep.on_error == "stop")

        if is_grid(self.composed):
            unfinished = run(grid_jobs(overrides, self.composed))
        else:
            from .searching import search

            unfinished = search(overrides, self.composed, run)
        if self.composed.mode == "train" and PART_OF_A_SWEEP not in os.environ:
            tell(self.composed, unfinished)
        if unfinished:
            raise SystemExit(1)


def is_asked_for(conf: Path, overrides: list[str]) -> bool:
    """Whether hydra.mode=MULTIRUN, of a file or an override, stands for --multirun."""
    texts = [*map(str.encode, overrides), *(file.read_bytes() for file in conf.rglob("*.yaml"))]
    if any(b"MULTIRUN" in text for text in texts):
        with contextlib.suppress(Exception):  # reported as that of a single run
            composed = compose(conf, corners(overrides)[0], own_section=True)
            return bool(composed.hydra.mode == RunMode.MULTIRUN)
    return False


def is_grid(composed: DictConfig) -> bool:
    """Whether the jobs are known from the start; those of a search are not."""
    if PART_OF_A_SWEEP in os.environ or composed.mode not in ("train", "check"):
        return True
    return is_ours(composed) and composed.sweep.get("sampler") == "grid"


def is_ours(composed: DictConfig) -> bool:
    """Whether the sweeper is the one of this file, not one of another package."""
    return str(composed.hydra.sweeper._target_).endswith("_sweeps.Sweeper")


def grid_jobs(overrides: list[str], composed: DictConfig) -> list[Job]:
    """The jobs of a grid, with their directories."""
    sweep_dir = Path(composed.hydra.sweep.dir)
    jobs = [list(job) for job in itertools.product(*choices(overrides).values())]
    if PART_OF_A_SWEEP in os.environ:
        return [Job(jobs[0], sweep_dir / composed.hydra.sweep.subdir)]
    return place(jobs, sweep_dir, set(swept(overrides)))


def search_space(params: Mapping[Any, Any], overrides: list[str]) -> list[str]:
    """The values that YAML gives to keys, except where the command line gives others."""
    given = {split_override(override)[1] for override in overrides}
    return [f"{key}={value}" for key, value in params.items() if str(key) not in given]


def last_of_each(overrides: list[str]) -> list[str]:
    """Without those whose key is given again later: Hydra reads both, or refuses them."""
    last = {split_override(override)[1]: override for override in overrides}
    return [o for o in overrides if o.startswith("~") or last[split_override(o)[1]] is o]


def swept(overrides: list[str]) -> dict[str, Override]:
    """The keys that have several values, each with its override; the last one counts."""
    parsed = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(overrides)}
    return {key: o for key, o in parsed.items() if o.is_sweep_override()}


def corners(overrides: list[str]) -> list[list[str]]:
    """Of a search: each value of each key, and the ends of its intervals, at least once."""
    values = list(choices(overrides).values())
    first = [of_key[0] for of_key in values]
    return [first] + [
        [*first[:i], value, *first[i + 1 :]]
        for i, of_key in enumerate(values)
        for value in of_key[1:]
    ]


def sweep_problems(overrides: list[str], is_grid: bool) -> Iterator[str]:
    """What is wrong with the values of a sweep, whatever its keys mean."""
    for key, override in swept(overrides).items():
        given, value = override.input_line, override.value()
        if not runs.is_the_jobs(key):
            yield f"{given}: all jobs of a sweep share it; expected one value of {key}"
        elif override.is_discrete_sweep():
            if not list(override.sweep_iterator()):
                yield f"{given}: no value in it; expected a range with its end above its start"
        elif is_grid:
            search = "search (sweep=optuna, or sweep.sampler=tpe)"
            yield f"{given}: a grid has no intervals; name the values of {key}, or {search}"
        elif isinstance(value, IntervalSweep) and not (value.start or 0) < (value.end or 0):
            yield f"{given}: expected interval(LOW, HIGH), the lower one first"


def search_problems(sampler: str, space: dict[str, Override]) -> Iterator[str]:
    """What keeps a search from beginning, found without importing Optuna."""
    needed = ("optuna", {"cmaes": "cmaes", "gp": "scipy"}.get(sampler, "optuna"))
    if lacking := [package for package in needed if not importlib.util.find_spec(package)]:
        missing = f"sweep.sampler = {sampler}: the package {lacking[0]} is missing"
        yield f"{missing}\npip install -e '.[sweep]'"
        return
    example = "tag(log, interval(1e-5, 1e-2))"
    for override in space.values():
        given, value = override.input_line, override.value()
        tags = set(getattr(value, "tags", ()))
        if others := sorted(tags - {"log"}):
            yield f"{given}: no such tag as {', '.join(others)}; expected log"
        elif tags and not (isinstance(value, IntervalSweep) and (value.start or 0) > 0):
            yield f"{given}: a logarithmic scale is for an interval above 0, such as {example}"
    if not space:
        yield (
            f"sweep.sampler = {sampler}: nothing to search; give a key a range, such as\n"
            f"'training.lr={example}', or list them in conf/sweep"
        )


def choices(overrides: list[str]) -> dict[str, list[str]]:
    """Each key's overrides, the later ones where it is given twice; of an interval, its ends."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {override.get_key_element(): _values(override) for override in parsed}


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    value: Any = override.value()
    is_discrete = override.is_discrete_sweep()
    values = override.sweep_string_iterator() if is_discrete else (value.start, value.end)
    return [f"{override.get_key_element()}={value}" for value in values]


def place(jobs: Sequence[list[str]], sweep_dir: Path, swept: set[str]) -> list[Job]:
    """Each job's directory: the one it had, else one named by what is swept.

    A job is known by its overrides, so that a longer or reordered grid finds what is there.
    """
    known = {meaning(overrides): path for path, overrides in _begun(sweep_dir).items()}
    taken = {path.name: what for what, path in known.items()}
    placed = []
    for overrides in jobs:
        what = meaning(overrides)
        if what not in known:
            named = [o for o in overrides if split_override(o)[1] in swept] or overrides
            name = runs.readable_name(named, short=True)
            if taken.get(name, what) != what:
                name += f",{hashlib.sha256(repr(sorted(what)).encode()).hexdigest()[:8]}"
            known[what] = sweep_dir / name
            taken[name] = what
        placed.append(Job(overrides, known[what]))
    return placed


def meaning(overrides: Sequence[str]) -> frozenset[str]:
    """What tells one job from another, whatever the order and the spelling of numbers."""
    job = runs.of_the_job(overrides)
    return frozenset(prefix.strip("+") + key + runs.canonical(value) for prefix, key, value in job)


def _begun(sweep_dir: Path) -> dict[Path, list[str]]:
    """The directories of jobs, with the overrides of each."""
    found = sorted(path.parent for path in sweep_dir.glob(f"*/.hydra/{runs.OVERRIDES}"))
    return {path.parent: runs.overrides(path) for path in found}


def run_jobs(launcher: Launcher, jobs: list[Job], checker: Any, stop: bool) -> dict[Path, Job]:
    """Run those that are not finished; return those that still are not, by directory."""
    from .resuming import is_finished

    waiting, configs = [], {}
    for job in {job.directory: job for job in jobs}.values():  # a search may draw one twice
        cfg = configs[job.directory] = checker.check(job.overrides, one_of_many=True)
        if cfg.mode == "train" and is_finished(cfg, job.directory):
            log.info("finished before: %s", job.directory.name)
        else:
            waiting.append(job)
    # one by one where they share this process, so that a failure can keep the others from starting
    in_this_process = type(launcher).__name__ == "BasicLauncher"
    unfinished: dict[Path, Job] = {}
    batches = [[job] for job in waiting] if in_this_process else [waiting] * bool(waiting)
    for number, batch in enumerate(batches):
        if stop and has_failed(unfinished):
            log.info("%d jobs are left out after the failure", len(waiting) - number)
            break
        if in_this_process and PART_OF_A_SWEEP not in os.environ:
            log.info("job %d of %d: %s", number + 1, len(waiting), batch[0].directory.name)
        given = [[*job.overrides, f"hydra.sweep.subdir='{job.directory.name}'"] for job in batch]
        returns = launcher.launch(given, initial_job_idx=number)
        for job, returned in zip(batch, returns, strict=False):
            if returned.status != JobStatus.COMPLETED:
                ended = how_it_ended(job.directory, returned._return_value)
                job.state, job.said = ended.state, str(ended)
                unfinished[job.directory] = job
    # another command may have finished one that was in use
    return {path: job for path, job in unfinished.items() if not is_finished(configs[path], path)}


def has_failed(unfinished: dict[Path, Job]) -> bool:
    """Whether one has failed; the others may go on later."""
    return any(job.state == "failed" for job in unfinished.values())


def tell(composed: DictConfig, unfinished: dict[Path, Job]) -> None:
    """Write sweep.csv, the best job first; show it, and the command line of the best."""
    sweep_dir, metric = Path(composed.hydra.sweep.dir), composed.training.objective.metric
    rows = list(_rows(sweep_dir, metric, unfinished))
    if not rows:
        return
    sign = -1 if goal_of(metric) == "maximize" else 1
    rows.sort(key=lambda row: math.inf if row[metric] is None else sign * row[metric])
    runs.write_csv(sweep_dir / TABLE, [list(rows[0]), *(row.values() for row in rows)])
    lines = [[name for name in rows[0] if name != "job"]]
    for row in rows[:SHOWN_ROWS]:
        short = "" if row[metric] is None else f"{row[metric]:.4g}"
        lines.append([short if name == metric else row[name] for name in lines[0]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())
    if len(rows) > SHOWN_ROWS:
        print(f"… and {len(rows) - SHOWN_ROWS} more")
    print(f"table: {runs.shorter(sweep_dir / TABLE)}")
    for directory, job in unfinished.items():
        print(f"{job.state}: {directory.name}: {(job.said.splitlines() or ['no word'])[0]}")
    if rows[0][metric] is not None:
        best = sweep_dir / str(rows[0]["job"])
        given = ["".join(parts) for parts in runs.of_the_job(runs.overrides(best / ".hydra"))]
        print(f"best: {runs.shorter(best)}")
        print(f"  {shlex.join(['python', 'train.py', *given])}")


def _rows(sweep_dir: Path, metric: str, unfinished: dict[Path, Job]) -> Iterator[dict[str, Any]]:
    """One for each job in the directory, those of earlier commands and those not begun too."""
    known = {path: job.overrides for path, job in unfinished.items()} | _begun(sweep_dir)
    found = {
        path: {key: value[1:] for _, key, value in runs.of_the_job(overrides)}
        for path, overrides in known.items()
    }
    keys = dict.fromkeys(key for values in found.values() for key in values)
    several = [key for key in keys if len({v.get(key, "") for v in found.values()}) > 1]
    for path, values in found.items():
        state, job = runs.state(path), unfinished.get(path)
        if job and (job.state != IN_USE or state not in ("running", "finished")):
            state = job.state
        yield {
            "job": path.name,
            metric: runs.read_record(path).get("objective"),
            "state": state,
            **{key: values.get(key, "") for key in several or list(keys)},
        }
