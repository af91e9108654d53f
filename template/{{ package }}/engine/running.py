# Kept by the template; an update merges what you change here.
"""What surrounds training: the directory's lock, signals, checks of this machine, processes."""

import logging
from pathlib import Path

from ..config import Config
from . import runs
from .errors import Stopped
from .stopping import Stop


def run(cfg: Config, run_dir: Path) -> float:
    """Train in run_dir; return the objective. Raises UserError, or Stopped after a signal."""
    logging.raiseExceptions = False  # a full disk must not bury the run in tracebacks of its log
    runs.lock(run_dir)
    try:
        with Stop() as stop:
            # torch is imported here, so that a signal in its seconds is answered as well
            from ..training import train
            from .preflight import check_machine
            from .processes import launch
            from .record import recorded
            from .resuming import check_resume

            check_resume(cfg, run_dir)
            check_machine(cfg, run_dir)
            with recorded(run_dir):
                return launch(train, cfg, run_dir, stop)
    except Stopped as stopped:
        stopped.go_on = runs.go_on_command(cfg.name)
        raise
    finally:
        runs.unlock(run_dir)
