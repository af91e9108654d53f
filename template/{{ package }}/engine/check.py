"""Checks before a run (files, tracker, checkpoint), and mode=check, which runs them all."""

import sys
from collections.abc import Iterator
from pathlib import Path

from .checkpoints.files import find_checkpoint, list_checkpoints, list_damages, newest_checkpoint
from .checkpoints.resume import check_resume, incompatibilities
from .config import Config
from .errors import UserError, refuse
from .project import Project
from .run_dir.lock import check_unlocked
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
    """mode=check: run all checks, print a summary. Raises UserError with all problems."""
    from .checkpoints.identity import check_identity, identify
    from .train.preflight import batch_problems, machine_problems, split_problems

    run = Path(cfg.runs_dir, cfg.name)
    problems = [*found, *machine_problems(project, cfg, run)]
    warnings = list(_warnings(project, run))
    try:
        check_unlocked(run)
        check_resume(project, cfg, run)
        if newest := newest_checkpoint(run):
            warnings += check_identity(cfg, newest, identify(project, cfg))
    except UserError as error:
        problems += error.problems
    if not found:  # else they would fail for the same reasons
        problems += batch_problems(project, cfg)
        problems += [] if problems else split_problems(project, cfg)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    refuse(problems)
    print(*_passed(project, cfg, run), sep="\n")


def _warnings(project: Project, run: Path) -> Iterator[str]:
    from .train.record import git_state

    git, _ = git_state(project.root)
    if not git:
        yield "no git commit here: record.json cannot record which code a run uses"
    elif git["uncommitted"]:
        count = len(git["uncommitted"])
        yield f"{count} files are not committed (git status); uncommitted.diff keeps the changes"
    yield from list_damages(run)


def _passed(project: Project, cfg: Config, run: Path) -> Iterator[str]:
    from .distributed.devices import device_count, pick_device
    from .train.preflight import checkpoint_bytes

    training, splits = cfg.training, project.splits(cfg)
    count, size = device_count(training.run), checkpoint_bytes(project, cfg)
    newest = newest_checkpoint(run)
    beginning = f"resumes from {newest.name}" if newest else "starts at iteration 1"
    yield "config      all values are set and valid"
    yield f"data        {cfg.data.kind}: a batch of each of {', '.join(splits)} was read"
    for note in project.data_notes(cfg, splits):
        yield f"            {note}"
    yield f"device      {count} × {pick_device(training.run.device)}, {training.run.precision}"
    yield f"disk        checkpoints of about {size / 1e6:.3g} MB, room for those that are kept"
    yield f"tracker     {cfg.tracker.kind}"
    yield f"run         {run}: {beginning}"
