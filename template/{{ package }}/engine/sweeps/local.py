"""hydra/launcher=serial and local: jobs on this machine, one after another or in parallel."""

import itertools
import logging
import math
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from .. import find_part
from ..errors import Stopped
from ..overrides import split_override
from ..run_dir.paths import JOB_OUTPUT, resume_command
from ..signals import SIGNALS, block_signals_in_children, handle_signals
from ..terminal import bar, format_duration
from .grid import Job, Queue
from .sweeper import Launcher

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


class Local(Launcher):
    """Runs each job in its own process, with its share of the cores and GPUs."""

    def __init__(self, at_once: int | str) -> None:
        self.at_once = at_once

    def run(self, queue: Queue) -> None:
        """Run jobs as resources allow. A signal asks them to stop; a second one kills them."""
        free, sweep = self._resources(queue.examples)[: queue.places], self.composed.sweep
        log.info("%d jobs, %d at once", queue.total, min(len(free), queue.total))
        more, running = True, list[Process]()
        printed_at = time.monotonic()
        try:
            with handle_signals() as stop, bar("jobs", queue.total) as update:
                while running or (more and not stop.signal):
                    while more and free and not stop.signal:
                        if job := next(queue.jobs, None):
                            running.append(Process(self, job, free.pop(0)))
                        more = job is not None
                    wait([it.process.sentinel for it in running], POLL_SECONDS)
                    if time.monotonic() - printed_at > 60 * sweep.status_minutes:
                        printed_at = time.monotonic()
                        log.info("running: %s", ", ".join(map(str, running)))
                    for it in list(running):
                        it.stop_if_due(stop.signal > 0, self.composed)
                        it.update_bar(note=it.duration())
                        if it.process.exitcode is None:
                            continue
                        running.remove(it)
                        it.stack.close()
                        free.append(it.resources)
                        if not stop.signal:
                            self.report_end(it.job, queue.total, *it.outcome(), it.output)
                            update(advance=1, note=self.best())
                    more = more and not self.gives_up()
                if stop.signal:
                    raise Stopped(stop.signal)
        except Stopped as stopped:
            for it in running:  # after a second signal
                it.kill()
            stopped.resume_command = resume_command(self.composed.name)
            if slurm := find_part("slurm"):
                slurm.requeue(stopped, self.composed.engine.requeue)
            raise

    def _resources(self, jobs: Sequence[Job]) -> list[dict[str, str]]:
        """The environment variables that set a job's resources, for each parallel job."""
        from ..distributed.devices import cores_here

        run = self.composed.training.run
        overrides = (split_override(o) for job in jobs for o in job.overrides)
        asked = [value[1:] for _, key, value in overrides if key == "training.run.devices"]
        numbers = [int(n) if n.isdigit() else 1 for n in asked or [str(run.devices)]]
        each = max(numbers)
        gpus = visible_gpus() if run.device in ("auto", "cuda") else []
        most = max(1, (len(gpus) or cores_here()) // each)
        count = most if self.at_once == "auto" else int(self.at_once)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores_here() // count // each)))
        # a single job has the whole machine, like a run
        resources = {"OMP_NUM_THREADS": threads} if count > 1 else {}
        if not gpus or count == 1:
            return [resources] * count
        turns = itertools.cycle(gpus)
        mine = [",".join(itertools.islice(turns, each)) for _ in range(count)]
        return [resources | {"CUDA_VISIBLE_DEVICES": numbers} for numbers in mine]


class Process:
    """A job's process, its resources, and its start time."""

    def __init__(self, launcher: Local, job: Job, resources: dict[str, str]) -> None:
        self.job, self.resources, self.began = job, resources, time.monotonic()
        self.asked_to_stop = ""  # timed out, stopped or pruned
        job.directory.mkdir(parents=True, exist_ok=True)
        self.output = job.directory / JOB_OUTPUT
        kind = "spawn" if sys.platform == "darwin" else "forkserver"  # forking crashes on macOS
        context: Any = multiprocessing.get_context(kind)
        # with these imported a job starts in 1.5 s, not 7 s; those that are missing are skipped
        context.set_forkserver_preload(["hydra.main", "torch._dynamo", "matplotlib.figure"])
        train, given, variables = launcher.command(job)
        arguments = (train, given, resources | variables, self.output)
        self.process = context.Process(target=run_train, args=arguments, name=job.directory.name)
        with block_signals_in_children():  # a signal to the group must not end the fork server
            self.process.start()
        self.stack = ExitStack()
        self.update_bar = self.stack.enter_context(bar(f"  {job.directory.name}", None))

    def __str__(self) -> str:
        return f"{self.job.directory.name} ({self.duration()})"

    def duration(self) -> str:
        """How long it has run."""
        return format_duration(time.monotonic() - self.began)

    def stop_if_due(self, stopping: bool, composed: DictConfig) -> None:
        """Ask the job once to save and stop; kill it some seconds after its time limit."""
        minutes = composed.sweep.job_minutes or math.inf
        late = time.monotonic() - self.began - 60 * minutes
        why = "timed out" if late > 0 else "stopped" if stopping else ""
        if (why := why or "pruned" * self.job.is_pruned()) and not self.asked_to_stop:
            self.asked_to_stop = why
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
        elif late > composed.engine.shutdown_seconds:
            self.kill()

    def kill(self) -> None:
        """Kill the job and its child processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def outcome(self) -> tuple[str, str]:
        """The state of a job that has ended, and a message."""
        if self.process.exitcode == 0:
            return "finished", ""
        return self.asked_to_stop or "failed", describe(self.process.exitcode)


def run_train(train: Path, overrides: list[str], environment: dict[str, str], output: Path) -> None:
    """Run train.py in this process, a job's; its output goes to a file."""
    os.setsid()  # a Ctrl-C reaches it once, from the sweep
    with output.open("ab") as file, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if (torch := sys.modules.get("torch")) and (threads := environment.get("OMP_NUM_THREADS")):
        torch.set_num_threads(int(threads))  # a preloaded torch has read the variable already
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    run_here(train, overrides, environment)


def run_here(train: Path, overrides: list[str], environment: dict[str, str]) -> None:
    """Run train.py in this process. Raises SystemExit as it does."""
    os.environ.update(environment)
    sys.argv = [str(train), *overrides]
    sys.path.insert(0, str(train.parent))
    runpy.run_path(str(train), run_name="__main__")


def _exit_with_parent(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def describe(status: Any) -> str:
    """An exit status as text: `ended by SIGKILL`, or `status 1`."""
    if not isinstance(status, int) or 0 <= status <= 128:
        return f"status {status}"
    return f"ended by {signal.Signals(status - 128 if status > 0 else -status).name}"


def visible_gpus() -> list[str]:
    """The GPUs here, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if named != [""] else [str(number) for number in range(count)]


def find_problems(composed: DictConfig) -> Iterator[str]:
    """Problems of the launcher's settings."""
    at_once = composed.hydra.launcher.get("at_once", "auto")
    if at_once != "auto" and not (isinstance(at_once, int) and at_once > 0):
        yield f"hydra.launcher.at_once = {at_once}: expected a number of jobs, 1 or more, or auto"
