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
from typing import Any, Self

from ..config import Config
from . import runs
from .composing import leaves
from .errors import Stopped, UserError
from .preflight import SQLITE
from .processes import is_main

log = logging.getLogger(__name__)

SESSION = ".session"  # the name of TensorBoard's files with hyperparameters and how the run ended
LONGEST_TAG, LONGEST_NAME = 5000, 250  # for MLflow


class Tracker:
    """What a run reports to, here nothing; a failure is reported once, and the run goes on."""

    def __init__(self, cfg: Config, run_dir: Path) -> None:
        self.tracker: Any = cfg.tracker
        self.config = cfg.model_dump()
        self.record = runs.read_record(run_dir)
        self.name = os.path.relpath(run_dir, cfg.runs_dir)  # NAME, or NAME/JOB in a sweep
        self.sweep = self.name.rpartition("/")[0] or None
        self.failed = False

    def send(self, step: int, values: dict[str, float]) -> None:
        """Values as the tracker calls them, valid/loss; raises whatever its client raises."""

    def end(self, state: str) -> None:
        """The run is over: finished, preempted (it will go on) or failed; raises as `send` does."""

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """The values of a split by name."""
        try:
            self.send(step, {f"{split}/{name}": value for name, value in values.items()})
        except Exception as error:
            if not self.failed:
                told = "%s takes no values now: %s; the run goes on, and metrics.jsonl has it all"
                log.warning(told, self.tracker.kind, error)
            self.failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, Stopped | KeyboardInterrupt)
        state = "preempted" if stopped else "failed" if kind else "finished"
        try:
            self.end(state)
        except Exception as error:
            told = "%s does not have the end of this run (%s): %s; metrics.jsonl has it all"
            log.warning(told, self.tracker.kind, state, error)


def open_tracker(cfg: Config, run_dir: Path, start: int) -> Tracker:
    """The tracker that the config names, with the whole config and the record in it already.

    Raises UserError where its client refuses: no credential, no server, no account.
    """
    kind = cfg.tracker.kind
    if kind == "none" or not is_main():
        return Tracker(cfg, run_dir)
    clients = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MLflow}
    try:
        return clients[kind](cfg, run_dir, start)
    except Exception as error:
        problem = f"tracker = {kind}: {str(error).strip()}\nmend it, or train without: tracker=none"
        known = run_dir / f"{kind}.id"
        if start and known.exists():
            problem += f"; as a new run there: rm {shlex.quote(str(known))}"
        raise UserError(problem) from error


class _TensorBoard(Tracker):
    def __init__(self, cfg: Config, run_dir: Path, start: int) -> None:
        from torch.utils.tensorboard import FileWriter, SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        super().__init__(cfg, run_dir)
        folder, self.step = run_dir / "tensorboard", start
        # TensorBoard heeds the first session that it finds, and this run goes on
        for earlier in folder.glob(f"*{SESSION}"):
            earlier.unlink()
        flat = dict(leaves(self.config))
        plain = {k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()}
        _, began, self.success = hparams(plain, {})  # type: ignore[no-untyped-call]
        self.writer = SummaryWriter(str(folder), purge_step=start + 1)
        for name, values in {"config": flat, "record": self.record}.items():
            # indented, it is shown as it is
            text = textwrap.indent(json.dumps(values, indent=2, default=str), "    ")
            self.writer.add_text(name, text, start)
        self.writer.flush()
        self.session = FileWriter(str(folder), filename_suffix=SESSION)
        self.session.add_summary(began)
        self.session.flush()

    def send(self, step: int, values: dict[str, float]) -> None:
        self.step = step
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, state: str) -> None:
        self.writer.add_text("state", state, self.step)
        self.writer.close()
        if state == "finished":
            self.session.add_summary(self.success)
        self.session.close()


class _WeightsAndBiases(Tracker):
    def __init__(self, cfg: Config, run_dir: Path, start: int) -> None:
        import wandb

        super().__init__(cfg, run_dir)
        self.teardown = wandb.teardown
        settings = wandb.Settings(init_timeout=self.tracker.init_seconds)
        if hasattr(settings, "finish_timeout"):  # an older wandb waits for uploads without end
            settings.finish_timeout = self.tracker.finish_seconds
        # it keeps a list of packages itself
        record = {k: v for k, v in self.record.items() if k not in ("packages", "earlier")}
        self.run = wandb.init(
            project=self.tracker.project,
            entity=self.tracker.entity,
            mode=self.tracker.mode,
            dir=run_dir,
            name=self.name,
            group=self.sweep,
            id=_remember(run_dir / "wandb.id", start, lambda: secrets.token_hex(4)),
            resume="allow",
            config=self.config | {"record": record},
            settings=settings,
        )
        # wandb's own step only goes up, and would refuse the steps that a resumed run repeats
        self.run.define_metric("iteration")
        self.run.define_metric("*", step_metric="iteration")

    def send(self, step: int, values: dict[str, float]) -> None:
        self.run.log({"iteration": step, **values})

    def end(self, state: str) -> None:
        if state == "preempted":
            self.run.mark_preempting()
        try:
            self.run.finish(exit_code=0 if state == "finished" else 1)
        except Exception:  # its own process is gone: the next job of a sweep needs another
            with suppress(Exception):
                self.teardown()
            raise


class _MLflow(Tracker):
    """Its server may go away: values wait until it answers again."""

    def __init__(self, cfg: Config, run_dir: Path, start: int) -> None:
        super().__init__(cfg, run_dir)
        tracker = self.tracker
        # its own patience, seven times two minutes, would stop training for as long
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(tracker.timeout_seconds))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(tracker.retries))
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        self.waiting: list[Any] = []
        self.away_until = 0.0
        with _one_at_a_time(tracker.uri):
            self.client = MlflowClient(tracking_uri=tracker.uri)
            experiment = self._experiment(tracker.experiment)
        known = run_dir / "mlflow.id"
        if start and known.exists():
            of_this_run = f"attributes.run_id = '{known.read_text()}'"
            if not self.client.search_runs([experiment], of_this_run):  # without deleted ones
                log.warning("mlflow has no run %s (any more): a new one there", known.read_text())
                known.unlink()
        self.run_id = _remember(
            known,
            start,
            lambda: str(self.client.create_run(experiment, run_name=self.name).info.run_id),
        )
        self.client.update_run(self.run_id, status="RUNNING")
        # a run that goes on has params already, and MLflow lets none of them change
        params = self.client.get_run(self.run_id).data.params
        flat = {_mlflow_name(key): str(value) for key, value in leaves(self.config)}
        tags = {
            "sweep": self.sweep,
            "changed": "\n".join(self.record.get("changed", [])),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": self.record.get("command"),
            "mlflow.source.git.commit": self.record.get("git", {}).get("commit"),
        }
        self.client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in flat.items() if key not in params],
            tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in tags.items() if value],
        )
        for file in (runs.CONFIG, runs.RECORD):
            try:
                self.client.log_artifact(self.run_id, str(run_dir / file))
            except Exception as error:  # files have a store of their own
                log.warning("mlflow does not take %s: %s; the run goes on", file, error)

    def send(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.waiting += [Metric(_mlflow_name(k), value, now, step) for k, value in values.items()]
        # a server that is down must not slow training down with every value
        if time.monotonic() >= self.away_until:
            self._send_waiting()

    def end(self, state: str) -> None:
        status = {"finished": "FINISHED", "preempted": "KILLED"}.get(state, "FAILED")
        try:
            self._send_waiting()
        finally:
            self.client.set_terminated(self.run_id, status)

    def _send_waiting(self) -> None:
        try:
            self.client.log_batch(self.run_id, metrics=self.waiting)
        except Exception:
            self.away_until = time.monotonic() + self.tracker.retry_seconds
            raise
        if self.failed:
            log.info("mlflow takes values again and has them all")
        self.waiting, self.failed = [], False

    def _experiment(self, name: str) -> str:
        from mlflow import MlflowException

        try:
            return str(self.client.create_experiment(name))
        except MlflowException:  # it is there; a job of the same sweep may just have made it
            found = self.client.get_experiment_by_name(name)
            if not found:
                raise
            return str(found.experiment_id)


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


def _remember(file: Path, start: int, new_id: Callable[[], str]) -> str:
    """The tracker's name for this run: the one it had before, if it goes on from a checkpoint."""
    if start == 0 or not file.exists():
        file.write_text(new_id())
    return file.read_text()
