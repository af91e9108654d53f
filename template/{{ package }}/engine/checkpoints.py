"""Checkpoints: directories written beside their place, then renamed into it, never half there."""

import hashlib
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import nn

from . import runs
from .errors import UserError

WEIGHTS = "weights.safetensors"
STATE = "state.pt"


@dataclass
class Progress:
    """How far a run has come."""

    iteration: int = 0
    best: float | None = None
    """The best objective so far."""
    stale: int = 0
    """Evaluations since then."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run_dir: Path, keep_last: int, metric: str, goal: str) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / runs.CHECKPOINTS
        self.keep_last = keep_last
        self.metric = metric
        self.goal = goal

    def save(
        self,
        progress: Progress,
        objective: float | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> Path:
        """Write one, then delete those that are neither among the last nor the best."""
        path = self.folder / f"iteration-{progress.iteration:09d}"
        beside = self.folder / f".{path.name}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_weights(model, str(beside / WEIGHTS))
        state = {
            "progress": asdict(progress),
            "optimizer": optimizer.state_dict()["state"],
            "optimizer_type": type(optimizer).__name__,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
        }
        torch.save(state, beside / STATE)
        manifest = {
            "iteration": progress.iteration,
            "objective": objective if objective is None or math.isfinite(objective) else None,
            "metric": self.metric,
            "goal": self.goal,
            "files": {name: _fingerprint(beside / name) for name in (WEIGHTS, STATE)},
        }
        (beside / runs.MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        for file in (*beside.iterdir(), beside):
            _sync(file)
        shutil.rmtree(path, ignore_errors=True)
        beside.rename(path)
        _sync(self.folder)
        self._prune()
        return path

    def _prune(self) -> None:
        kept = runs.list_checkpoints(self.run_dir)
        best = runs.find_checkpoint(self.run_dir)
        for old in kept[: -self.keep_last]:
            if old != best:
                shutil.rmtree(old)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the newest checkpoint, if there is one; the optimizer's settings stay today's."""
        found = runs.list_checkpoints(self.run_dir)
        if not found:
            return Progress()
        load_model(model, found[-1])
        try:
            state = torch.load(found[-1] / STATE, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, OSError, UnpicklingError) as error:
            first = str(error).splitlines()[0]
            raise UserError(
                f"{found[-1] / STATE}: damaged ({first})\n"
                f"to go on from the checkpoint before it, remove {found[-1]}"
            ) from None
        if state["optimizer_type"] == type(optimizer).__name__:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        torch.set_rng_state(state["rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        progress = Progress(**state["progress"])
        about = runs.read_manifest(found[-1])
        if (about["metric"], about["goal"]) != (self.metric, self.goal):
            progress.best, progress.stale = None, 0  # of another objective
        return progress


def load_model(model: nn.Module, checkpoint: Path) -> nn.Module:
    """Put a checkpoint's weights into the model. Raises UserError where they do not fit."""
    try:
        load_weights(model, checkpoint / WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{checkpoint}: no {WEIGHTS} in it") from None
    except SafetensorError as error:
        raise UserError(f"{checkpoint / WEIGHTS}: damaged ({error})") from None
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(
            f"{checkpoint}: its weights do not fit the model that the config describes\n"
            f"give the model and data that it was trained with, for example model=tiny\n{first}"
        ) from None
    return model


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
