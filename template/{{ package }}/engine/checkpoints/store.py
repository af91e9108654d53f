"""Writes and restores checkpoints: each is written to a hidden directory, which is then renamed.

weights.safetensors holds the model, state.pt everything else that the run restores.
"""

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config import Config
from ..distributed.collectives import is_main
from ..errors import UserError
from ..overrides import leaves
from ..project import Project
from ..run_dir.paths import CHECKPOINTS, read_overrides
from . import files
from .files import STATE, WEIGHTS, Progress
from .identity import check_identity, identify

log = logging.getLogger(__name__)

Load = Callable[[nn.Module, Path], Any]


class Stateful(Protocol):
    """An object that a checkpoint can hold: the leaves of its state are tensors or JSON values."""

    def state_dict(self) -> dict[str, Any]:
        """The current state."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Restore a state."""


class Checkpoints:
    """The checkpoints of one run; the main process writes them, all read them."""

    load_weights: Load = staticmethod(load_weights)

    def __init__(self, project: Project, cfg: Config, run_dir: Path) -> None:
        self.run_dir, self.cfg = run_dir, cfg
        self.settings = cfg.training.checkpoint
        self.made_of = identify(project, cfg) if is_main() else {}
        self.metric = cfg.training.objective.metric
        self.goal = project.goal(self.metric)
        self.at = 0  # the last iteration that was saved or restored
        self.since = time.monotonic()
        self.model: nn.Module
        self.others: dict[str, Stateful] = {}

    def is_due(self, iteration: int) -> bool:
        """Whether a checkpoint is due by iterations or by minutes."""
        minutes = self.settings.every_minutes
        late = minutes is not None and time.monotonic() - self.since >= 60 * minutes
        return iteration > self.at and (iteration % self.settings.every == 0 or late)

    def save(self, progress: Progress, value: float | None, required: bool = False) -> None:
        """Write a checkpoint, then delete all but the best and the last `keep_last`.

        `value` is the objective, if measured. A failed write is logged as a warning, or raises
        UserError if the checkpoint is `required`.
        """
        self.since = time.monotonic()
        known = progress.iteration == self.at
        if (known and value is None) or not is_main():
            self.at = progress.iteration
            return
        path = self.run_dir / CHECKPOINTS / f"iteration-{progress.iteration:09d}"
        about: dict[str, Any] = {
            "progress": asdict(progress),
            "metric": self.metric,
            "goal": self.goal,
            "objective": value if value is not None and math.isfinite(value) else None,
            "overrides": read_overrides(self.run_dir),
            "config": self.cfg.model_dump(),
            **self.made_of,
        }
        try:
            if known:  # the weights are saved, only the objective is new
                files.write_about(path, files.read_about(path) | about)
            else:
                self._write(path, about)
        except (OSError, SafetensorError, RuntimeError) as error:  # a full disk raises any of them
            self._report_failure(path, error, required)
            return
        self.at = progress.iteration
        ranked = files.best_first(self.run_dir)
        for old in {*sorted(ranked)[: -self.settings.keep_last]} - {*ranked[:1]}:
            _delete(old)

    def _write(self, path: Path, about: dict[str, Any]) -> None:
        beside = path.with_name(f".{path.name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_weights(self.model, str(beside / WEIGHTS))
        torch.save({name: get_state(each) for name, each in self.others.items()}, beside / STATE)
        shutil.copymode(beside / STATE, beside / WEIGHTS)  # safetensors lets only the owner read
        for name in (WEIGHTS, STATE):
            files.sync(beside / name)
        written = {name: files.fingerprint(beside / name) for name in (WEIGHTS, STATE)}
        files.write_about(beside, about | {"files": written})
        _delete(path)  # a damaged one, if any
        beside.rename(path)
        files.sync(path.parent)

    def _report_failure(self, path: Path, error: Exception, required: bool) -> None:
        shutil.rmtree(path.with_name(f".{path.name}"), ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        free = shutil.disk_usage(self.run_dir).free / 1e6
        kept = files.newest_checkpoint(self.run_dir) or "no checkpoint yet"
        text = f"{path} could not be saved: {reason} ({free:.1f} MB are free on its disk)"
        text += f"\nnewest checkpoint kept: {kept}"
        if required:
            raise UserError(f"{text}\nmake room, then give the same command with its name= again")
        log.warning("%s; training continues", text)

    def restore(
        self, model: nn.Module, average: nn.Module | None, others: Mapping[str, Stateful]
    ) -> Progress:
        """Load the newest intact checkpoint, if any; optimizers keep the settings of this config.

        Raises UserError if a state does not fit, or if the checkpoint has none for an object;
        with resume=force such an object starts fresh.
        """
        self.model, self.others = model, dict(others)
        if average is not None:
            self.model, self.others["trained"] = average, model
        nested: Any = dict | list | tuple
        states = {name: get_state(each) for name, each in self.others.items()}
        for name, leaf in leaves(states, within=nested):
            if not isinstance(leaf, Tensor | str | int | float | None | nested):
                kind = type(leaf).__name__
                raise UserError(
                    f"session.restore: {name} is a {kind}, which a checkpoint cannot hold\n"
                    "expected tensors, numbers, texts, lists and mappings of them in state_dict()"
                )
        if is_main():  # leftovers of a killed run
            for left in (self.run_dir / CHECKPOINTS).glob(".*iteration-*/"):
                shutil.rmtree(left, ignore_errors=True)
        found = files.newest_checkpoint(self.run_dir, warn=is_main())
        if not found:
            return Progress(0, 0, None, best_iteration=0, evals_since_best=0, skipped=0, seconds=0)
        for line in check_identity(self.cfg, found, self.made_of) if is_main() else []:
            log.warning("%s", line)
        load_model(self.model, found, self.load_weights)
        if average is not None:
            model.load_state_dict(average.state_dict())  # if the checkpoint has no other
        try:
            state = torch.load(found / STATE, weights_only=True, map_location="cpu")
            lacking = [name for name in self.others if name not in state]
            for name in self.others.keys() & state.keys():
                _load(self.others[name], state[name])
        except Exception as error:  # torch and the objects raise many kinds
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{found / STATE}: {reason}") from None
        if lacking and self.cfg.resume != "force":
            raise UserError(
                f"{found} has no state of {', '.join(lacking)}, which session.restore names\n"
                "give another name, or resume=force to continue with a fresh one"
            )
        about = files.read_about(found)
        progress = Progress(**about["progress"])
        if (about["metric"], about["goal"]) != (self.metric, self.goal):
            progress.best, progress.evals_since_best = None, 0  # the objective has changed
        self.at = progress.iteration
        return progress


def get_state(each: Stateful) -> dict[str, Any]:
    """The part of an object's state that a checkpoint holds."""
    state = each.state_dict()
    if isinstance(each, Optimizer):
        # restoring its groups would bring back the old learning rate and weight decay
        return {"state": state["state"], "names": _names(state), "type": type(each).__name__}
    return state


def _load(each: Stateful, state: dict[str, Any]) -> None:
    if not isinstance(each, Optimizer):
        each.load_state_dict(state)
    elif state["type"] == type(each).__name__:
        now = each.state_dict()
        then = {n: state["state"].get(i) for i, n in enumerate(state["names"])}
        moved = {i: then[n] for i, n in enumerate(_names(now)) if then.get(n)}
        found = moved if then else state["state"]
        each.load_state_dict({"state": found, "param_groups": now["param_groups"]})


def _names(state: dict[str, Any]) -> list[str]:
    """The parameters' names, in the order of the optimizer's state, where it knows them."""
    return [name for group in state["param_groups"] for name in group.get("param_names", ())]


def load_model(model: nn.Module, checkpoint: Path, load: Load = load_weights) -> nn.Module:
    """Load a checkpoint's weights into the model. Raises UserError where they do not fit."""
    log.info("weights of %s", checkpoint)
    try:
        load(model, checkpoint / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{checkpoint / WEIGHTS}: {error}") from None
    except RuntimeError as error:
        first = str(error).splitlines()[:2][-1].strip()
        raise UserError(
            f"{checkpoint}: its weights do not fit the model that build_model makes\n{first}\n"
            "the package's code has changed since then, or a key outside of model and data has\n"
            "check out the commit in the run's record.json, or train again under another name"
        ) from None
    return model


def _delete(checkpoint: Path) -> None:
    """Rename, then delete: a kill in between leaves nothing that looks like a checkpoint."""
    if checkpoint.exists():
        hidden = checkpoint.with_name(f".deleted-{checkpoint.name}")
        checkpoint.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
