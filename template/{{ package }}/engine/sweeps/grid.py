"""The jobs of --multirun: the values of each key, and a directory for each job. No torch here."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from ..compose.names import renames
from ..overrides import is_identifying, job_key, job_name, split_override
from ..run_dir.paths import OVERRIDES, read_overrides

if TYPE_CHECKING:
    from ..project import Project


@dataclass
class Job:
    """One job of a sweep: its overrides, its directory, and how it ended."""

    overrides: list[str]
    directory: Path
    state: str = ""
    """finished, failed, timed out, cancelled, lost, in use or pruned; empty before it has ended."""
    message: str = ""
    """Why it did not finish."""

    @property
    def reason(self) -> str:
        """The first line of the message."""
        return (self.message.splitlines() or ["no message"])[0]

    def is_pruned(self) -> bool:
        """Whether it is to stop; launchers ask while it runs, and a search decides."""
        return False


class Queue:
    """Jobs, of which a launcher takes the next one whenever a place is free."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.examples, self.jobs, self.total, self.places = jobs, iter(jobs), len(jobs), len(jobs)


def search_space(conf: Path, params: Mapping[Any, Any], overrides: list[str]) -> list[str]:
    """The overrides of a search space in YAML, without keys that the command line sets."""
    given = {split_override(override)[1] for override in overrides}
    space = [renames(conf).override(f"{key}={value}") for key, value in params.items()]
    return [override for override in space if split_override(override)[1] not in given]


def swept(overrides: list[str]) -> dict[str, Override]:
    """The keys that have several values, each with its override; the last one counts."""
    parsed = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(overrides)}
    return {key: o for key, o in parsed.items() if o.is_sweep_override()}


def choices(overrides: list[str], ends: bool = False) -> dict[str, list[str]]:
    """The overrides of each key, one for each value; the `ends` of ranges, always of intervals."""
    found = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value = override.get_key_element(), override.value()
        if isinstance(value, IntervalSweep):
            found[key] = [f"{key}={end}" for end in (value.start, value.end)]
        elif override.is_sweep_override():
            found[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            if ends and isinstance(value, RangeSweep):
                del found[key][1:-1]
        else:
            found[key] = [override.input_line or ""]
    return found


def grid_jobs(project: "Project", overrides: list[str], sweep_dir: Path) -> list[Job]:
    """The jobs of a grid: every combination."""
    jobs = [list(job) for job in itertools.product(*choices(overrides).values())]
    return assign_directories(project, jobs, sweep_dir, set(swept(overrides)))


def probe_jobs(overrides: list[str]) -> list[list[str]]:
    """Jobs that use each value of each key, and the ends of its ranges, at least once."""
    values = list(choices(overrides, ends=True).values())
    first = [of_key[0] for of_key in values]
    jobs = [first]
    for i, of_key in enumerate(values):
        jobs += [[*first[:i], value, *first[i + 1 :]] for value in of_key[1:]]
    return jobs


def assign_directories(
    project: "Project", jobs: Sequence[list[str]], sweep_dir: Path, swept: set[str]
) -> list[Job]:
    """Each job with its directory: the existing one, else one named by the swept keys.

    Overrides identify a job, so that a longer or reordered grid finds existing directories; those
    of ResumeSafe keys only where they are swept.
    """
    safe, started = safe_keys(project) - swept, started_jobs(project, sweep_dir)
    known = {job_key(overrides, safe): path for path, overrides in started.items()}
    taken, assigned = set(started), []
    for overrides in jobs:
        key = job_key(overrides, safe)
        if key not in known:
            name = job_name([o for o in overrides if split_override(o)[1] in swept] or overrides)
            if sweep_dir / name in taken:
                name += f",{hashlib.sha256(repr(sorted(key)).encode()).hexdigest()[:8]}"
            known[key] = sweep_dir / name
            taken.add(known[key])
        assigned.append(Job(overrides, known[key]))
    return assigned


def safe_keys(project: "Project") -> set[str]:
    """The keys of training, and the tracker, that a resumed run may change."""
    from ..types import RESUME_SAFE, fields

    safe = {key for key, field in fields(project.config) if RESUME_SAFE in field.metadata}
    safe -= {"training.objective.metric"}  # what is recorded of a job depends on it
    return {key for key in safe if key.startswith(("training.", "tracker"))}


def started_jobs(project: "Project", sweep_dir: Path) -> dict[Path, list[str]]:
    """The directories of jobs that have started, with the overrides of each by today's names."""
    found = sorted(path.parent for path in sweep_dir.glob(f"*/.hydra/{OVERRIDES}"))
    rename = renames(project.conf).override
    return {path.parent: list(map(rename, read_overrides(path))) for path in found}


def sweep_problems(overrides: list[str], is_grid: bool) -> Iterator[str]:
    """Problems of the values of a sweep, whatever its keys."""
    for key, override in swept(overrides).items():
        given, value = override.input_line, override.value()
        if not is_identifying(key):
            yield f"{given}: all jobs of a sweep share it; expected one value of {key}"
        elif override.is_discrete_sweep():
            if not list(override.sweep_iterator()):
                yield f"{given}: the range is empty; expected one with its end above its start"
        elif is_grid:
            search = "search (sweep=optuna, or sweep.sampler=tpe)"
            yield f"{given}: a grid has no intervals; name the values of {key}, or {search}"
        elif isinstance(value, IntervalSweep) and not (value.start or 0) < (value.end or 0):
            yield f"{given}: expected interval(LOW, HIGH), the lower one first"
