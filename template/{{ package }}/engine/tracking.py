# Kept by the template; an update merges what you change here.
"""Trackers: each on its own client, behind three methods. They get the resolved config first."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from ..config import Config
from ..config.tracker import MLflow, TensorBoard, WeightsAndBiases
from .errors import Stopped, UserError
from .processes import is_main


class Tracker:
    """What training tells a tracker; this one keeps silent."""

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """The values of a split by name."""

    def finish(self, state: str) -> None:
        """The run is over: finished, preempted (it will go on) or failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, Stopped | KeyboardInterrupt)
        self.finish("preempted" if stopped else "failed" if kind else "finished")


def open_tracker(cfg: Config, run_dir: Path, start: int) -> Tracker:
    """The tracker that the config names, with the whole config in it already.

    Raises UserError where its client refuses: no credential, no server, no account.
    """
    if not is_main():
        return Tracker()
    values = cfg.model_dump()
    try:
        match cfg.tracker:
            case TensorBoard():
                return _TensorBoard(values, run_dir, start)
            case WeightsAndBiases():
                return _WeightsAndBiases(cfg.tracker, values, run_dir)
            case MLflow():
                return _MLflow(cfg.tracker, values, run_dir)
    except Exception as error:
        raise UserError(
            f"tracker = {cfg.tracker.kind}: {str(error).strip()}\n"
            "mend it, or train without: tracker=none"
        ) from error
    return Tracker()


class _TensorBoard(Tracker):
    def __init__(self, values: dict[str, Any], run_dir: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start + 1)
        rows = [f"| {key} | {value} |" for key, value in flatten(values).items()]
        self.writer.add_text("config", "\n".join(["| key | value |", "|---|---|", *rows]))

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{split}/{name}", value, step)

    def finish(self, state: str) -> None:
        self.writer.add_text("state", state)
        self.writer.close()


class _WeightsAndBiases(Tracker):
    def __init__(self, tracker: WeightsAndBiases, values: dict[str, Any], run_dir: Path) -> None:
        import wandb

        self.run = wandb.init(
            project=tracker.project,
            entity=tracker.entity,
            mode=tracker.mode,
            dir=run_dir,
            name=run_name(values, run_dir),
            id=_remember(run_dir, "wandb", lambda: secrets.token_hex(4)),
            resume="allow",
            config=values,
        )
        # wandb's own step only goes up, and would refuse the steps that a resumed run repeats
        self.run.define_metric("*", step_metric="iteration")

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        named = {f"{split}/{name}": value for name, value in values.items()}
        self.run.log({"iteration": step, **named})

    def finish(self, state: str) -> None:
        if state == "preempted":
            self.run.mark_preempting()
        self.run.finish(exit_code=0 if state == "finished" else 1)


class _MLflow(Tracker):
    def __init__(self, tracker: MLflow, values: dict[str, Any], run_dir: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=tracker.uri)
        found = self.client.get_experiment_by_name(tracker.experiment)
        experiment = (
            found.experiment_id if found else self.client.create_experiment(tracker.experiment)
        )

        def new_run() -> str:
            run = self.client.create_run(experiment, run_name=run_name(values, run_dir))
            return str(run.info.run_id)

        self.run_id = _remember(run_dir, "mlflow", new_run)
        self.client.update_run(self.run_id, status="RUNNING")
        known = self.client.get_run(self.run_id).data.params  # a resumed run has them already
        for key, value in flatten(values).items():
            if key not in known:
                self.client.log_param(self.run_id, key, value)

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run_id, f"{split}/{name}", value, step=step)

    def finish(self, state: str) -> None:
        status = {"finished": "FINISHED", "preempted": "KILLED"}.get(state, "FAILED")
        self.client.set_terminated(self.run_id, status)


def run_name(values: dict[str, Any], run_dir: Path) -> str:
    """NAME, or NAME/JOB for a job of a sweep."""
    return os.path.relpath(run_dir, values["runs_dir"])


def flatten(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """{"training": {"optim": {"lr": 1}}} as {"training.optim.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat


def _remember(run_dir: Path, kind: str, new_id: Callable[[], str]) -> str:
    """The tracker's name for this run: the one it had before, if the run is resumed."""
    file = run_dir / f"{kind}.id"
    if not file.exists():
        beside = file.with_suffix(".tmp")
        beside.write_text(new_id())
        beside.replace(file)
    return file.read_text()
