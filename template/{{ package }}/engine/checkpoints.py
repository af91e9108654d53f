"""Checkpoints: directories written beside their place, then renamed into it, never half there."""

import logging
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import nn

from ..config import Config
from . import manifest, runs
from .errors import UserError
from .identity import check_identity, code_digest, identify
from .manifest import CHECKPOINTS, Progress, goal_of, newest_checkpoint, read_manifest, sync
from .processes import is_main

log = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
STATE = "state.pt"


class Checkpoints:
    """The checkpoints of one run; the main process writes them, all read them."""

    def __init__(self, run_dir: Path, cfg: Config) -> None:
        self.run_dir = run_dir
        self.settings = cfg.training.checkpoint
        self.cfg = cfg
        self.made_of = identify(cfg) if is_main() else {}
        self.metric = cfg.training.objective.metric
        self.goal = goal_of(self.metric)
        self.at = 0  # the iteration whose weights were saved or restored last
        self.since = time.monotonic()

    def is_due(self, iteration: int) -> bool:
        """Whether the cadence asks for one now, by iterations or by minutes."""
        minutes = self.settings.every_minutes
        late = minutes is not None and time.monotonic() - self.since >= 60 * minutes
        return iteration > self.at and (iteration % self.settings.every == 0 or late)

    def save(
        self,
        progress: Progress,
        value: float | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        must: bool = False,
    ) -> None:
        """Write one, then delete those that are neither among the last nor the best.

        `value` is the objective, if measured. Without room, warns; if it `must`, raises UserError.
        """
        self.since = time.monotonic()
        known = progress.iteration == self.at
        if (known and value is None) or not is_main():
            self.at = progress.iteration
            return
        path = self.run_dir / CHECKPOINTS / f"iteration-{progress.iteration:09d}"
        about: dict[str, Any] = {
            "format": manifest.FORMAT,
            "progress": asdict(progress),
            "metric": self.metric,
            "goal": self.goal,
            "objective": value if value is not None and math.isfinite(value) else None,
            "overrides": runs.overrides(self.run_dir),
            "config": self.cfg.model_dump(),
            **self.made_of,
        }
        try:
            if known:  # the weights are there, only the evaluation is new
                manifest.write_manifest(path, read_manifest(path) | about)
            else:
                self._write(path, about, model, optimizer)
        except (OSError, SafetensorError, RuntimeError) as error:  # what a full disk makes of each
            self._tell_failure(path, error, must)
            return
        self.at = progress.iteration
        self._prune()

    def _write(
        self, path: Path, about: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        beside = path.with_name(f".{path.name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_weights(model, str(beside / WEIGHTS))
        state = {"optimizer": optimizer.state_dict()["state"], "type": type(optimizer).__name__}
        torch.save(state, beside / STATE)
        shutil.copymode(beside / STATE, beside / WEIGHTS)  # safetensors lets its owner alone read
        for name in (WEIGHTS, STATE):
            sync(beside / name)
        files = {name: manifest.fingerprint(beside / name) for name in (WEIGHTS, STATE)}
        manifest.write_manifest(beside, about | {"files": files})
        _delete(path)  # a damaged one, if any
        beside.rename(path)
        sync(path.parent)

    def _tell_failure(self, path: Path, error: Exception, must: bool) -> None:
        shutil.rmtree(path.with_name(f".{path.name}"), ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        free = shutil.disk_usage(self.run_dir).free / 1e6
        kept = newest_checkpoint(self.run_dir) or "no checkpoint yet"
        text = f"{path} could not be saved: {reason} ({free:.1f} MB are free on its disk)"
        text += f"\nwhat is there stays: {kept}"
        if must:
            raise UserError(f"{text}\nmake room, then give the same command with its name= again")
        log.warning("%s; the run goes on", text)

    def _prune(self) -> None:
        complete = manifest.complete_checkpoints(self.run_dir)
        best = manifest.best_first(complete)[:1]
        for old in {*complete[: -self.settings.keep_last]} - {*best}:
            _delete(old)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the newest sound one, if there is any; the optimizer's settings stay today's."""
        if is_main():  # what was being written or deleted when the run was killed
            for left in (self.run_dir / CHECKPOINTS).glob(".*iteration-*/"):
                shutil.rmtree(left, ignore_errors=True)
        found = newest_checkpoint(self.run_dir, tell=is_main())
        if not found:
            return Progress(iteration=0, evaluated=0, best=None, stale=0, skipped=0)
        for line in check_identity(self.cfg, found, self.made_of) if is_main() else []:
            log.warning("%s", line)
        load_model(model, found)
        try:
            state = torch.load(found / STATE, weights_only=True, map_location="cpu")
            if state["type"] == type(optimizer).__name__:
                # with its state, torch would bring back the learning rate and weight decay of then
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        except Exception as error:  # whichever torch happens to raise
            said = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{found / STATE}: {said}") from None
        about = read_manifest(found)
        progress = Progress(**about["progress"])
        if (about["metric"], about["goal"]) != (self.metric, self.goal):
            progress.best, progress.stale = None, 0  # of another objective
        self.at = progress.iteration
        return progress


def load_model(model: nn.Module, checkpoint: Path) -> nn.Module:
    """Put a checkpoint's weights into the model. Raises UserError where they do not fit."""
    log.info("weights of %s", checkpoint)
    try:
        load_weights(model, checkpoint / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{checkpoint / WEIGHTS}: {error}") from None
    except RuntimeError as error:
        first = str(error).splitlines()[:2][-1].strip()
        same = read_manifest(checkpoint)["identity"].get("code") == code_digest()
        what = "is that of then, so the config is not" if same else "has changed since"
        raise UserError(
            f"{checkpoint}: its weights do not fit the model that model.py builds\n"
            f"the package's code {what}\n{first}"
        ) from None
    return model


def _delete(checkpoint: Path) -> None:
    """Rename, then delete: a kill in between leaves nothing that looks like a checkpoint."""
    if checkpoint.exists():
        hidden = checkpoint.with_name(f".deleted-{checkpoint.name}")
        checkpoint.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
