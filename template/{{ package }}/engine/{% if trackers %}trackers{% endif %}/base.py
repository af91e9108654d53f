"""The interface of the trackers. Each tracker is a module named after its kind.

Such a module has Run(cfg, run_dir, start), a Tracker that continues the run of a resumed one;
find_problem(settings), which does not import the client; next_steps(cfg), commands that show it.
"""

import importlib.util
import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from .. import find_part, see
from ..checkpoints.files import best_first
from ..config import Config
from ..errors import Stopped, UserError
from ..run_dir.paths import read_record
from ..types import RESUME_SAFE, groups

log = logging.getLogger(__name__)


class Tracker:
    """Reports nothing; subclasses report to a client, whose failure is logged once and ignored."""

    machine = "z_machine"
    """The prefix of speed and memory; clients sort by name: below losses and objectives."""

    def __init__(self, cfg: Config, run_dir: Path) -> None:
        self.settings: Any = cfg.tracker
        self.run_dir, self.config = run_dir, cfg.model_dump()
        # model, training, data and what the project adds
        self.hyperparameters = {it: self.config[it] for it in groups(type(cfg), RESUME_SAFE)}
        self.record = read_record(run_dir)
        self.name = os.path.relpath(run_dir, cfg.runs_dir)  # NAME, or NAME/JOB in a sweep
        self.sweep = self.name.rpartition("/")[0] or None
        self.failed = False

    def send(self, step: int, values: dict[str, float]) -> None:
        """Send values named as valid/loss; raises whatever the client raises."""

    def send_results(self, checkpoint: str, plots: list[Path]) -> None:
        """Send the best checkpoint's path and the run's PNG files; raises as `send` does."""

    def end(self, state: str) -> None:
        """End the run: finished, preempted (it will resume) or failed; raises as `send` does."""

    def log(self, step: int, **groups: dict[str, float]) -> None:
        """Send the values of these groups: train, valid, best (of the objective), machine."""
        named = {self.machine if name == "machine" else name: it for name, it in groups.items()}
        flat = {f"{group}/{name}": it for group in named for name, it in named[group].items()}
        try:
            self.send(step, flat)
        except Exception as error:
            if not self.failed:
                text = "%s accepts no values: %s; training continues, metrics.jsonl has them all"
                log.warning(text, self.settings.kind, error)
            self.failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, Stopped | KeyboardInterrupt)
        state = "preempted" if stopped else "failed" if kind else "finished"
        try:
            try:
                best = best_first(self.run_dir)[:1]
                self.send_results("".join(map(str, best)), sorted(self.run_dir.glob("*.png")))
            finally:
                self.end(state)
        except Exception as error:
            text = "%s was not sent the end of this run (%s): %s; the run's directory has it all"
            log.warning(text, self.settings.kind, state, error)


def open_tracker(cfg: Config, run_dir: Path, start: int) -> Tracker:
    """Open the tracker that the config names, and send it the config and the record.

    Raises UserError if its client fails: no credential, no server, no account.
    """
    kind = cfg.tracker.kind
    if kind == "none":
        return Tracker(cfg, run_dir)
    try:
        opened: Tracker = find_part(f"trackers.{kind}").Run(cfg, run_dir, start)
    except Exception as error:
        problem = f"tracker = {kind}: {str(error).strip()}\nfix it, or train with tracker=none"
        known = run_dir / f"{kind}.id"
        if start and known.exists():
            problem += f"; to start a new run there: rm {shlex.quote(str(known))}"
        raise UserError(problem) from error
    return opened


def find_problems(settings: Any) -> Iterator[str]:
    """Why the tracker cannot work here, found without importing its client."""
    kind, page = settings.kind, see("compare.md#trackers")
    if kind == "none":
        return
    if not importlib.util.find_spec(kind):
        install = f"pip install -e '.[{kind}]', or with uv: uv pip install -e '.[{kind}]'"
        yield f"tracker = {kind}: the package {kind} is missing\n{install}{page}"
    elif problem := find_part(f"trackers.{kind}").find_problem(settings):
        yield problem + page
