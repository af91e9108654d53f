# Kept by the template; an update merges what you change here.
"""What surrounds training: the directory's lock, signals, checks of this machine, processes."""

import logging
import math
from contextlib import nullcontext
from pathlib import Path

from ..config import Config
from . import runs
from .errors import Stopped
from .stopping import Stop, requeue

log = logging.getLogger(__name__)


def run(cfg: Config, run_dir: Path) -> float:
    """Train in run_dir; return the objective. Raises UserError, or Stopped after a signal.

    Of several nodes the first one owns the directory; the others get its config and take part.
    """
    logging.raiseExceptions = False  # a full disk must not bury the run in tracebacks of its log
    is_first = runs.is_first_node(cfg)
    if is_first:
        runs.lock(run_dir)
    try:
        with Stop() as stop:
            # torch is imported here, so that a signal in its seconds is answered as well
            from ..training import train
            from .preflight import check_machine
            from .processes import launch
            from .record import recorded
            from .resuming import check_resume

            if is_first:
                check_resume(cfg, run_dir)
            check_machine(cfg, run_dir)
            with recorded(run_dir) if is_first else nullcontext() as note:
                objective = launch(train, cfg, run_dir, stop)
                if note:
                    note(objective=objective if math.isfinite(objective) else None)
                return objective
    except Stopped as stopped:
        stopped.go_on = runs.go_on_command(cfg.name) if is_first else ""
        if is_first and requeue(stopped, cfg.requeue):
            stopped.go_on = ""
            log.info("back in Slurm's queue; the same job goes on in %s", run_dir)
        raise
    finally:
        if is_first:
            runs.unlock(run_dir)
