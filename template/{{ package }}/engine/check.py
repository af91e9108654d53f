"""Checks before a run (files, tracker, checkpoint), and mode=check, which runs them all."""

from collections.abc import Callable, Iterator
from pathlib import Path

from .checkpoints.files import find_checkpoint, list_checkpoints, list_damages, newest_checkpoint
from .checkpoints.resume import check_resume, incompatibilities
from .config import Config
from .errors import UserError, refuse
from .project import Project
from .run_dir.lock import check_unlocked
from .terminal import print_table
from .trackers.base import tracker_problem


def file_problems(project: Project, cfg: Config) -> Iterator[str]:
    """Problems of the files and accounts that this mode needs, found without torch."""
    metric = cfg.training.objective.metric
    if metric not in project.metrics:
        expected = ", ".join(project.metrics)
        yield f"training.objective.metric = {metric}: expected one of {expected}"
    trains = cfg.mode in ("train", "check")
    if trains and cfg.init and not list_checkpoints(Path(cfg.runs_dir, cfg.name)):
        yield from checkpoint_problems(project, cfg, cfg.init, "init")
    if cfg.checkpoint and cfg.mode != "train":
        yield from checkpoint_problems(project, cfg, cfg.checkpoint, "checkpoint")
    if trains and (problem := tracker_problem(cfg.tracker)):
        yield problem
    yield from project.check_data(cfg, project.splits(cfg))
    if "input" in project.needs(cfg.mode) or (cfg.mode == "check" and cfg.input):
        yield from project.check_input(cfg)


def checkpoint_problems(project: Project, cfg: Config, path: str, key: str) -> list[str]:
    """Why the weights that a key names are missing, damaged, or do not fit this config's model."""
    try:
        found = find_checkpoint(Path(path), key)
        return incompatibilities(project, cfg, found, f"{key} = {path}")
    except UserError as error:
        return list(error.problems)


def report(project: Project, cfg: Config, found: list[str]) -> None:
    """mode=check: run all checks, print a table. Raises UserError with all problems."""
    problems, rows = list[str](), []
    for what, wrong, warnings, detail in _checks(project, cfg, found):
        problems += wrong
        state = "failed" if wrong else "warning" if warnings else "ok"
        count = "" if not wrong else "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        details = [count] if wrong else [*warnings, *detail()]
        rows += [(state, what, details[0]), *(("", "", line) for line in details[1:])]
    print_table(rows, styles={"ok": "green", "warning": "yellow", "failed": "bold red"})
    refuse(problems)


def _checks(
    project: Project, cfg: Config, found: list[str]
) -> Iterator[tuple[str, list[str], list[str], Callable[[], list[str]]]]:
    """Each check with its problems, its warnings, and details for when it passes."""
    from .checkpoints.identity import check_identity, identify
    from .distributed.devices import device_count, pick_device
    from .train.preflight import batch_problems, checkpoint_bytes, machine_problems, split_problems
    from .train.record import git_state

    yield "config", [], [], lambda: ["all values are set and valid"]
    git, _ = git_state(project.root)
    changed = len(git["uncommitted"]) if git else 0
    code = []
    if not git:
        code = ["no git commit here: record.json cannot record which code a run uses"]
    elif changed:
        code = [f"{changed} files are not committed (git status); uncommitted.diff keeps them"]
    yield "code", [], code, lambda: [f"commit {git['commit'][:10]}"] if git else []
    yield "files", found, [], lambda: [f"data={cfg.data.kind}, tracker={cfg.tracker.kind}"]

    run, splits = Path(cfg.runs_dir, cfg.name), project.splits(cfg)
    machine = machine_problems(project, cfg, run)
    yield (
        "machine",
        machine,
        [],
        lambda: [
            f"{device_count(cfg.training.run)} × {pick_device(cfg.training.run.device)}, "
            f"{cfg.training.run.precision}",
            f"room for checkpoints of about {checkpoint_bytes(project, cfg) / 1e6:.3g} MB",
        ],
    )
    if not (found or machine):  # else they would fail for the same reasons
        wrong = list(batch_problems(project, cfg))
        wrong = wrong or list(split_problems(project, cfg))
        yield (
            "data",
            wrong,
            [],
            lambda: [
                f"a batch of each of {', '.join(splits)} was read",
                *project.data_notes(cfg, splits),
            ],
        )
    wrong, warnings, newest = [], list_damages(run), newest_checkpoint(run)
    try:
        check_unlocked(run)
        check_resume(project, cfg, run)
        if newest:
            warnings += check_identity(cfg, newest, identify(project, cfg))
    except UserError as error:
        wrong += error.problems
    beginning = f"resumes from {newest.name}" if newest else "starts at iteration 1"
    yield "run", wrong, warnings, lambda: [f"{run}: {beginning}"]
