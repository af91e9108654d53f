"""Starts training: the directory's lock, signals, checks of this machine, processes."""

import logging
import math
import os
import re
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .. import find_part
from ..config import Config
from ..errors import Stopped, refuse
from ..project import Project
from ..run_dir.lock import lock
from ..run_dir.paths import CHECKPOINTS, COMMAND, JOB_DIR, METRICS, RECORD, resume_command
from ..signals import Stop, handle_signals

log = logging.getLogger(__name__)


def start(
    train: Callable[[Any, Path, Stop], float], project: Project, cfg: Config, run_dir: Path
) -> float:
    """Call `train` in run_dir, in one process or several; return the objective.

    Raises UserError, or Stopped after a signal. The first of several nodes owns the directory.
    """
    logging.raiseExceptions = False  # a full disk must not flood the terminal with tracebacks
    is_first = cfg.engine.is_first_node
    try:
        with handle_signals() as stop:
            if is_first:
                lock(run_dir, cfg.engine.takeover_seconds)
            # torch is imported here, so that a signal during its import is handled too
            from ..checkpoints.resume import check_resume
            from ..distributed.processes import launch
            from .preflight import compare_splits, machine_problems
            from .record import recorded

            if is_first:
                check_resume(project, cfg, run_dir)
            problems, warnings = compare_splits(project, cfg, run_dir)
            refuse([*machine_problems(project, cfg, run_dir), *problems])
            for line in warnings:
                log.warning(line)
            for line in project.data_notes(cfg, project.splits(cfg)):
                log.info(line)
            with recorded(run_dir) if is_first else nullcontext() as note:
                objective = launch(train, cfg, run_dir, stop)
                if note:
                    note(objective=objective if math.isfinite(objective) else None)
                    print_next_steps(project, cfg, run_dir)
                return objective
    except Stopped as stopped:
        if is_first:
            stopped.resume_command = resume_command(cfg.name)
            if slurm := find_part("slurm"):
                is_job = JOB_DIR in os.environ  # then the sweep requeues its Slurm job
                slurm.requeue(stopped, cfg.engine.requeue and not is_job)
        raise


def print_next_steps(project: Project, cfg: Config, run_dir: Path) -> None:
    """Log where the results are and what to type next; a sweep prints a table for its jobs."""
    if run_dir.name != cfg.name:
        return
    plain = re.fullmatch(r"[\w./-]+", str(run_dir))
    checkpoint = f"checkpoint={run_dir}" if plain else shlex.quote(f'checkpoint="{run_dir}"')
    steps = [project.command(name, checkpoint) for name, it in project.modes.items() if it.needs]
    if find_part("report.table"):
        given = shlex.split(os.environ.get(COMMAND, ""))
        elsewhere = [argument for argument in given if argument.startswith("runs_dir=")]
        steps.append(f"python train.py {shlex.join(['mode=report', *elsewhere])}")
    if tracker := find_part(f"trackers.{cfg.tracker.kind}"):
        steps += tracker.next_steps(cfg)
    files = [name for name in ("curves.png", METRICS, RECORD) if (run_dir / name).is_file()]
    log.info("results  %s: %s", run_dir, ", ".join([*files, CHECKPOINTS]))
    log.info("next     %s", "\n         ".join(steps))
