"""Trackers: each on its own client, behind three methods. They get config and record first."""

import fcntl
import json
import logging
import os
import re
import secrets
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..config import Config
from ..config.tracker import MLflow, TensorBoard, WeightsAndBiases
from . import runs
from .composing import leaves
from .errors import Stopped, UserError
from .preflight import SQLITE
from .processes import is_main

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

SESSION = ".session"  # the name of TensorBoard's file with hyperparameters and how the run ended
LONGEST_TAG, LONGEST_NAME = 5000, 250  # for MLflow
LEFT_OUT = ("packages", "earlier")  # of the record, for W&B


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
    """The tracker that the config names, with the whole config and the record in it already.

    Raises UserError where its client refuses: no credential, no server, no account.
    """
    if not is_main():
        return Tracker()
    values = cfg.model_dump()
    try:
        match cfg.tracker:
            case TensorBoard():
                return _TensorBoard(cfg.tracker, values, run_dir, start)
            case WeightsAndBiases():
                return _WeightsAndBiases(cfg.tracker, values, run_dir, start)
            case MLflow():
                return _MLflow(cfg.tracker, values, run_dir, start)
    except Exception as error:
        problem = f"tracker = {cfg.tracker.kind}: {str(error).strip()}"
        problem += "\nmend it, or train without: tracker=none"
        known = run_dir / f"{cfg.tracker.kind}.id"
        if start and known.exists():
            problem += f"; as a new run there: rm {shlex.quote(str(known))}"
        raise UserError(problem) from error
    return Tracker()


class Row(NamedTuple):
    """What one call of log brought."""

    step: int
    values: dict[str, float]  # as trackers call them: valid/loss
    time: float


class _Client(Tracker):
    """A tracker that may go away: the run goes on, and what could not be sent waits for it."""

    def __init__(self, tracker: TensorBoard | WeightsAndBiases | MLflow) -> None:
        self.kind = tracker.kind
        self.retry_seconds = tracker.retry_seconds
        self.waiting: list[Row] = []
        self.away_until: float | None = None

    def send(self, rows: list[Row]) -> None:
        """Raises whatever the client raises."""
        raise NotImplementedError

    def end(self, state: str) -> None:
        """Raises whatever the client raises."""
        raise NotImplementedError

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        named = {f"{split}/{name}": value for name, value in values.items()}
        self.waiting.append(Row(step, named, time.time()))
        # a server that is down must not slow training down with every value
        if self.away_until is None or time.monotonic() >= self.away_until:
            self._send()

    def finish(self, state: str) -> None:
        self._send()
        try:
            self.end(state)
        except Exception as error:
            log.warning("%s: the run's state, %s, is missing there: %s", self.kind, state, error)
        if self.waiting:
            first, last = self.waiting[0].step, self.waiting[-1].step
            log.warning(
                "%s: what iterations %d to %d have logged is missing there; metrics.jsonl has it",
                *(self.kind, first, last),
            )

    def _send(self) -> None:
        try:
            self.send(self.waiting)
        except Exception as error:
            if self.away_until is None:
                log.warning("%s takes no values now: %s; the run goes on", self.kind, error)
            self.away_until = time.monotonic() + self.retry_seconds
            return
        if self.away_until is not None:
            log.info("%s takes values again and has them all", self.kind)
        self.away_until = None
        self.waiting.clear()


class _TensorBoard(_Client):
    def __init__(
        self, tracker: TensorBoard, values: dict[str, Any], run_dir: Path, start: int
    ) -> None:
        from torch.utils.tensorboard.summary import hparams

        super().__init__(tracker)
        self.folder = run_dir / "tensorboard"
        self.step = start
        # TensorBoard heeds the first session that it finds, and this run goes on
        for earlier in self.folder.glob(f"*{SESSION}"):
            earlier.unlink()
        flat = dict(leaves(values))
        rows = [f"| {key} | {_cell(value)} |" for key, value in flat.items()]
        record = textwrap.indent(json.dumps(runs.read_record(run_dir), indent=2), "    ")
        plain = {k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()}
        _, began, self.success = hparams(plain, {})  # type: ignore[no-untyped-call]
        self.writer: SummaryWriter | None = self._open(purge_step=start + 1)
        self.writer.add_text("config", "\n".join(["| key | value |", "|---|---|", *rows]), start)
        self.writer.add_text("record", record, start)
        self.writer.flush()
        self.session = self._open(filename_suffix=SESSION)
        self._add_session(began)
        self.session.flush()

    def send(self, rows: list[Row]) -> None:
        # a writer that has failed once, on a full disk, never writes again: open another
        writer, self.writer = self.writer or self._open(), None
        for row in rows:
            self.step = row.step
            for name, value in row.values.items():
                writer.add_scalar(name, value, row.step, walltime=row.time)
        writer.flush()
        self.writer = writer

    def end(self, state: str) -> None:
        writer = self.writer or self._open()
        writer.add_text("state", state, self.step)
        writer.close()
        if state == "finished":
            self._add_session(self.success)
        self.session.close()

    def _add_session(self, summary: Any) -> None:
        file: Any = self.session.file_writer
        file.add_summary(summary)

    def _open(self, **options: Any) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder), **options)


class _WeightsAndBiases(_Client):
    def __init__(
        self, tracker: WeightsAndBiases, values: dict[str, Any], run_dir: Path, start: int
    ) -> None:
        import wandb

        super().__init__(tracker)
        self.teardown = wandb.teardown
        settings = wandb.Settings(init_timeout=tracker.init_seconds)
        if hasattr(settings, "finish_timeout"):  # an older wandb waits for uploads without end
            settings.finish_timeout = tracker.finish_seconds
        record = runs.read_record(run_dir)
        self.run = wandb.init(
            project=tracker.project,
            entity=tracker.entity,
            mode=tracker.mode,
            dir=run_dir,
            name=run_name(values, run_dir),
            group=sweep_name(values, run_dir),
            id=_remember(run_dir / "wandb.id", start, lambda: secrets.token_hex(4)),
            resume="allow",
            # it keeps a list of packages itself
            config=values | {"record": {k: v for k, v in record.items() if k not in LEFT_OUT}},
            settings=settings,
        )
        # wandb's own step only goes up, and would refuse the steps that a resumed run repeats
        self.run.define_metric("iteration")
        self.run.define_metric("*", step_metric="iteration")

    def send(self, rows: list[Row]) -> None:
        for row in rows:
            self.run.log({"iteration": row.step, **row.values})

    def end(self, state: str) -> None:
        if state == "preempted":
            self.run.mark_preempting()
        try:
            self.run.finish(exit_code=0 if state == "finished" else 1)
        except Exception:  # its own process is gone: the next job of a sweep needs another
            with suppress(Exception):
                self.teardown()
            raise


class _MLflow(_Client):
    def __init__(self, tracker: MLflow, values: dict[str, Any], run_dir: Path, start: int) -> None:
        # its own patience, seven times two minutes, would stop training for as long
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(tracker.timeout_seconds))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(tracker.retries))
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        super().__init__(tracker)
        with _one_at_a_time(tracker.uri):
            self.client = MlflowClient(tracking_uri=tracker.uri)
            experiment = self._experiment(tracker.experiment)
        name = run_name(values, run_dir)
        if start:
            self._forget_deleted(run_dir / "mlflow.id")
        self.run_id = _remember(
            run_dir / "mlflow.id",
            start,
            lambda: str(self.client.create_run(experiment, run_name=name).info.run_id),
        )
        self.client.update_run(self.run_id, status="RUNNING")
        # a run that goes on has params already, and MLflow lets none of them change
        known = self.client.get_run(self.run_id).data.params
        flat = {_mlflow_name(key): str(value) for key, value in leaves(values)}
        record = runs.read_record(run_dir)
        tags = {
            "sweep": sweep_name(values, run_dir),
            "changed": "\n".join(record.get("changed", [])),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": record.get("command"),
            "mlflow.source.git.commit": record.get("git", {}).get("commit"),
        }
        self.client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in flat.items() if key not in known],
            tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in tags.items() if value],
        )
        for file in (runs.CONFIG, runs.RECORD):
            try:
                self.client.log_artifact(self.run_id, str(run_dir / file))
            except Exception as error:  # files have a store of their own
                log.warning("mlflow does not take %s: %s; the run goes on", file, error)

    def send(self, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_mlflow_name(name), value, int(row.time * 1000), row.step)
            for row in rows
            for name, value in row.values.items()
        ]
        self.client.log_batch(self.run_id, metrics=metrics)

    def end(self, state: str) -> None:
        status = {"finished": "FINISHED", "preempted": "KILLED"}.get(state, "FAILED")
        self.client.set_terminated(self.run_id, status)

    def _experiment(self, name: str) -> str:
        from mlflow import MlflowException

        found = self.client.get_experiment_by_name(name)
        if not found:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another job of the sweep may just have made it
                found = self.client.get_experiment_by_name(name)
                if not found:
                    raise
        return str(found.experiment_id)

    def _forget_deleted(self, file: Path) -> None:
        from mlflow import MlflowException

        if not file.exists():
            return
        try:
            active = self.client.get_run(file.read_text()).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            active = False
        if not active:
            log.warning("mlflow has no run %s (any more): a new one there", file.read_text())
            file.unlink()


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """The jobs of a sweep may begin together, and MLflow fails where two make one database."""
    if not uri.startswith(SQLITE):
        yield
        return
    with Path(uri.removeprefix(SQLITE).partition("?")[0] + ".lock").open("w") as file:
        with suppress(OSError):  # some cluster file systems have no locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^\w/. -]", "_", name)[:LONGEST_NAME]


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def run_name(values: dict[str, Any], run_dir: Path) -> str:
    """NAME, or NAME/JOB for a job of a sweep."""
    return os.path.relpath(run_dir, values["runs_dir"])


def sweep_name(values: dict[str, Any], run_dir: Path) -> str | None:
    """NAME for a job of a sweep; None for a run that stands alone."""
    return run_name(values, run_dir).rpartition("/")[0] or None


def _remember(file: Path, start: int, new_id: Callable[[], str]) -> str:
    """The tracker's name for this run: the one it had before, if it goes on from a checkpoint."""
    if start == 0 or not file.exists():
        beside = file.with_suffix(".tmp")
        beside.write_text(new_id())
        beside.replace(file)
    return file.read_text()
