"""Checks before a run (files, tracker, checkpoint), and mode=check, which runs them all."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import find_part
from .checkpoints.files import find_checkpoint, list_checkpoints, list_damages, newest_checkpoint
from .checkpoints.resume import check_resume, incompatibilities
from .config import Config
from .errors import WITHOUT, UserError, refuse
from .project import Project
from .run_dir.code import git_state
from .run_dir.lock import holder, refuse_holder
from .run_dir.paths import RECORD, read_record
from .terminal import print_json, print_table


def file_problems(project: Project, cfg: Config) -> Iterator[str]:
    """Problems of the files and accounts that this mode needs, found without torch."""
    metric = cfg.training.objective.metric
    if metric not in project.metrics:
        expected = ", ".join(project.metrics)
        yield f"training.objective.metric = {metric}: expected one of {expected}"
    trains = cfg.mode in ("train", "check")
    if trains and not list_checkpoints(Path(cfg.runs_dir, cfg.name)):
        is_file = Path(cfg.init or "").is_file()
        is_asked = is_file or any(cfg.training.model_dump().get("finetune", {}).values())
        if is_asked and (part := find_part("checkpoints.pretrained")):  # it imports torch
            yield from part.find_problems(project, cfg)
        elif is_file:
            yield f"init = {cfg.init}: a file; {WITHOUT.format('finetune')}"
        elif cfg.init:
            yield from checkpoint_problems(project, cfg, cfg.init, "init")
    if cfg.checkpoint:
        yield from checkpoint_problems(project, cfg, cfg.checkpoint, "checkpoint")
    if trains and (trackers := find_part("trackers.base")):
        yield from trackers.find_problems(cfg.tracker)
    yield from project.check_data(cfg, project.splits(cfg))
    yield from project.check_input(cfg)


def checkpoint_problems(project: Project, cfg: Config, path: str, key: str) -> list[str]:
    """Why the weights that a key names are missing, damaged, or do not fit this config's model."""
    try:
        return incompatibilities(project, cfg, find_checkpoint(Path(path), key), f"{key} = {path}")
    except UserError as error:
        return list(error.problems)


@dataclass
class Check:
    """A row of mode=check, with details for when it passes."""

    check: str
    details: Sequence[str] = ()
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()


def report(checks: Iterable[Check], form: str) -> None:
    """Print the results of mode=check, as text or JSON. Raises UserError with all problems."""
    results, rows = [], []
    for it in checks:
        state = "failed" if it.problems else "warning" if it.warnings else "ok"
        results.append(asdict(it) | {"state": state})
        count = "1 problem" if len(it.problems) == 1 else f"{len(it.problems)} problems"
        lines = [*it.warnings, *([count] if it.problems else it.details)]
        rows += [(state, it.check, lines[0]), *(("", "", line) for line in lines[1:])]
    if form == "json":
        print_json(results)
    else:
        print_table(rows, styles={"ok": "green", "warning": "yellow", "failed": "bold red"})
    refuse(problem for it in results for problem in it["problems"])


def run_checks(project: Project, cfg: Config, found: list[str], jobs: int) -> Iterator[Check]:
    """The checks of mode=check, of the first of `jobs`; `found` has the problems of files."""
    from .checkpoints.identity import check_identity, identify
    from .distributed.devices import device_count, pick_device
    from .train.preflight import batch_problems, checkpoint_bytes, compare_splits, machine_problems

    of_all = f" in each of {jobs} jobs; below is the first" if jobs > 1 else ""
    yield Check("config", [f"all values are set and valid{of_all}"])
    git, _ = git_state(project.root)
    details, warnings = [f"commit {git['commit'][:10]}"] if git else [], list[str]()
    if not git:
        warnings = ["no git commit: record.json cannot record the code (git init, git commit)"]
    elif changed := len(git["uncommitted"]):
        warnings = [f"uncommitted changes (git status): {changed} files, saved in uncommitted.diff"]
    yield Check("code", details, warnings=warnings)
    yield Check("files", [f"data={cfg.data.kind}, tracker={cfg.tracker.kind}"], found)

    run, splits, training = Path(cfg.runs_dir, cfg.name), project.splits(cfg), cfg.training.run
    machine, details = machine_problems(project, cfg, run), []
    if not machine:
        details = [
            f"{device_count(training)} × {pick_device(training.device)}, {training.precision}",
            f"room for checkpoints of about {checkpoint_bytes(project, cfg) / 1e6:.3g} MB",
        ]
    yield Check("machine", details, machine)
    if found or machine:
        yield Check("data", warnings=["not checked: fix the problems above first"])
    else:
        details, warnings = [f"a batch of each of {', '.join(splits)} was read"], []
        problems = list(batch_problems(project, cfg))
        if not problems:
            problems, warnings = compare_splits(project, cfg, run)
            details += project.data_notes(cfg, splits)
        yield Check("data", details, problems, warnings)
    problems, warnings, newest = [], list_damages(run), newest_checkpoint(run)
    try:
        refuse_holder(run, holder(run))
        check_resume(project, cfg, run)
        made_of = identify(project, cfg)
        if newest:
            warnings += check_identity(cfg, newest, made_of)
        ran = {it.parent.name: read_record(it.parent) for it in sorted(run.glob(f"*/{RECORD}"))}
        now = made_of["identity"]
        codes = {job: then.get("identity", now).get("code") for job, then in ran.items()}
        if others := [job for job, code in codes.items() if code != now["code"]]:
            warnings.append(f"{len(others)} jobs ran other code than today's: {', '.join(others)}")
    except UserError as error:
        problems = list(error.problems)
    beginning = f"resumes from {newest.name}" if newest else "starts at iteration 1"
    beginning = f"{jobs} jobs" if jobs > 1 else beginning
    yield Check("run", [f"{run}: {beginning}"], problems, warnings)
