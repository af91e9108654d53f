"""What surrounds training: the directory's lock, signals, checks of this machine, processes."""

import logging
import math
import os
import re
import shlex
from contextlib import nullcontext
from pathlib import Path

from ..config import Config
from . import runs
from .errors import Stopped, refuse
from .stopping import requeue, signals_stop

log = logging.getLogger(__name__)


def run(cfg: Config, run_dir: Path) -> float:
    """Train in run_dir; return the objective. Raises UserError, or Stopped after a signal.

    Of several nodes the first one owns the directory; the others get its config and take part.
    """
    logging.raiseExceptions = False  # a full disk must not bury the run in tracebacks of its log
    is_first = runs.is_first_node(cfg)
    try:
        with signals_stop() as stop:
            if is_first:
                runs.lock(run_dir, cfg.training.processes.takeover_seconds)
            # torch is imported here, so that a signal in its seconds is answered as well
            from ..checks import data_notes
            from ..training import train
            from .curves import draw_curves
            from .preflight import machine_problems, split_problems
            from .processes import launch
            from .record import recorded
            from .resuming import check_resume

            if is_first:
                check_resume(cfg, run_dir)
            refuse([*machine_problems(cfg, run_dir), *split_problems(cfg)])
            for line in data_notes(cfg):
                log.info(line)
            with recorded(run_dir) if is_first else nullcontext() as note:
                objective = launch(train, cfg, run_dir, stop)
                if note:
                    note(objective=objective if math.isfinite(objective) else None)
                    draw_curves(run_dir)
                    tell_the_way_on(cfg, run_dir)
                return objective
    except Stopped as stopped:
        if is_first:
            stopped.go_on = runs.go_on_command(cfg.name)
            requeue(stopped, cfg.requeue)
        raise
    finally:
        if is_first:
            runs.unlock(run_dir)


def tell_the_way_on(cfg: Config, run_dir: Path) -> None:
    """Where everything is, and what people type next; a sweep has a table for its jobs instead."""
    if run_dir.name != cfg.name:
        return
    plain = re.fullmatch(r"[\w./-]+", str(run_dir))
    checkpoint = f"checkpoint={run_dir}" if plain else shlex.quote(f'checkpoint="{run_dir}"')
    log.info("in %s: curves.png, metrics.jsonl, record.json, checkpoints", run_dir)
    log.info("next: python train.py mode=evaluate %s", checkpoint)
    log.info("      python train.py mode=recognize %s input=FILE_OR_FOLDER", checkpoint)
    given = shlex.split(os.environ.get(runs.COMMAND, ""))
    elsewhere = [argument for argument in given if argument.startswith("runs_dir=")]
    log.info("      python train.py %s", shlex.join(["mode=report", *elsewhere]))
    if cfg.tracker.kind == "tensorboard":
        log.info("      tensorboard --logdir %s", shlex.quote(cfg.runs_dir))
    if cfg.tracker.kind == "mlflow" and cfg.tracker.uri.startswith("sqlite:"):
        log.info("      mlflow ui --backend-store-uri %s", shlex.quote(cfg.tracker.uri))
