"""Where the jobs of --multirun run: hydra/launcher=local and hydra/launcher=slurm. No torch here.

A job is a command line, python train.py …, in a process of its own: one that dies takes no other
with it, and a GPU is its own.
"""

import importlib.util
import itertools
import logging
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from . import runs
from .composing import PROJECT
from .errors import JobFailed, Stopped, UserError
from .stopping import leave_with, requeue, signals_stop

log = logging.getLogger(__name__)

OUTPUT = "output.log"
PART_OF_A_SWEEP = "PART_OF_A_SWEEP"  # in the environment of a job: others tell what came of it
ENDS_WITH = "ENDS_WITH"  # and the process of the sweep, with which it ends
IN_USE = "in use"  # by another process than the sweep's
OF_THE_SWEEP = ("hydra.mode", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher")
SLURM_ID = "slurm.id"
LOOK_EVERY = 0.1  # seconds
SLURM_EVERY = 2.0  # seconds; squeue is the cluster's, and shared
# what squeue says of a job that is over, and what a sweep does if it left no result
ENDED = dict.fromkeys(("COMPLETED", "FAILED", "OUT_OF_MEMORY"), "failed")
ENDED |= dict.fromkeys(("CANCELLED", "PREEMPTED", "REVOKED"), "cancelled")
ENDED |= {"TIMEOUT": "timed out", "DEADLINE": "timed out", "NODE_FAIL": "lost", "BOOT_FAIL": "lost"}


def check_parent() -> None:
    """End with the sweep that started this process. Raises UserError under torchrun."""
    if sweep := os.environ.pop(ENDS_WITH, ""):
        leave_with(int(sweep))
    if "TORCHELASTIC_RUN_ID" in os.environ or {"LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        count = os.environ.get("LOCAL_WORLD_SIZE", "N")
        raise UserError(
            "each process of torchrun would be a run of its own; train.py starts them itself:\n"
            f"python train.py training.devices={count}"
        )


class _Launcher(Launcher):
    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.composed = config

    def directory(self, overrides: Sequence[str]) -> Path:
        """Where a job works: what our sweeper says, else the name of all its overrides."""
        given = [o.partition("=")[2] for o in overrides if o.startswith("hydra.sweep.subdir=")]
        name = given[0].strip("'") if given else runs.readable_name(overrides)
        return Path(self.composed.hydra.sweep.dir, name)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and wait for them. Raises Stopped after a signal.

        Returns fewer if one has failed and sweep.on_error is stop.
        """
        theirs = [o for o in self.composed.hydra.overrides.hydra if not o.startswith(OF_THE_SWEEP)]
        more = [*theirs, "hydra/launcher=basic"]
        jobs = {self.directory(o): ["--multirun", *o, *more] for o in job_overrides}
        self.count, self.ended = len(jobs), dict[Path, JobReturn]()
        self.run(jobs)
        return [self.ended[directory] for directory in jobs if directory in self.ended]

    def run(self, jobs: dict[Path, list[str]]) -> None:
        """Run train.py with these arguments for each directory, and note how it ends."""
        raise NotImplementedError

    def note(self, directory: Path, job: JobReturn) -> None:
        """Keep and say how a job ended."""
        self.ended[directory] = job
        error = job._return_value
        failed = isinstance(error, JobFailed)
        what = f"{error.state}, {str(error).splitlines()[0]}" if failed else "finished"
        log.info("%d/%d %s: %s", len(self.ended), self.count, directory.name, what)

    def gives_up(self) -> bool:
        """Whether no other job is to begin, since one has failed."""
        failed = any(job.status == JobStatus.FAILED for job in self.ended.values())
        return failed and self.composed.sweep.on_error == "stop"


def returned(directory: Path, status: int | str, output: Path, state: str = "failed") -> JobReturn:
    """What a job that has ended gives back: its objective, or how it ended."""
    record = runs.read_record(directory)
    if status == 0:
        return JobReturn(_return_value=record.get("objective"), status=JobStatus.COMPLETED)
    known = record.get("error") if record.get("state") == state == "failed" else None
    said = known or (_ended(status) if isinstance(status, int) else status)
    if output.exists():
        said += f"; see {runs.shorter(output.absolute())}"
    error = how_it_ended(directory, JobFailed(said, state))
    failed = error.state == "failed"
    return JobReturn(_return_value=error, status=JobStatus.FAILED if failed else JobStatus.UNKNOWN)


def how_it_ended(directory: Path, error: object) -> JobFailed:
    """The error of a job, unless it failed because another process trains in its directory."""
    ended = error if isinstance(error, JobFailed) else JobFailed(str(error))
    other = runs.holder(directory) if ended.state == "failed" else ""
    return JobFailed(other, IN_USE) if other else ended


class Running:
    """A job's process, what it may use, and since when it runs."""

    def __init__(self, directory: Path, arguments: list[str], share: dict[str, str]) -> None:
        self.directory, self.share, self.began = directory, share, time.monotonic()
        self.state = "failed"  # unless it finishes
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / OUTPUT).open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(PROJECT / "train.py"), *arguments],
                env=os.environ | share | {PART_OF_A_SWEEP: "1", ENDS_WITH: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C reaches it once, from the sweep
            )

    def __str__(self) -> str:
        from .metrics import duration

        return f"{self.directory.name} ({duration(time.monotonic() - self.began)})"

    def stop_if_due(self, stopping: bool, minutes: float | None, grace: float) -> None:
        """Ask it once to save and stop; kill it `grace` seconds after its time is over."""
        late = time.monotonic() - self.began - 60 * (minutes or math.inf)
        if (stopping or late > 0) and self.state == "failed":
            self.state = "timed out" if late > 0 else "stopped"
            self.process.send_signal(signal.SIGTERM)
        elif late > grace:
            os.killpg(self.process.pid, signal.SIGKILL)


class Local(_Launcher):
    """Several jobs at a time on this machine, each with GPUs of its own."""

    def __init__(self, at_once: int | str) -> None:
        self.at_once = at_once

    def run(self, jobs: dict[Path, list[str]]) -> None:
        """Start jobs as there is room; a signal is passed on to them, a second one kills them."""
        free, sweep = self._shares(jobs.values()), self.composed.sweep
        grace = self.composed.training.processes.shutdown_seconds
        if len(jobs) > 1:
            log.info("%d jobs, %d at once", len(jobs), min(len(free), len(jobs)))
        waiting, running = list(jobs), dict[Path, Running]()
        told_at = time.monotonic()
        try:
            with signals_stop() as stop:
                while running or (waiting and not stop.is_set()):
                    while waiting and free and not stop.is_set():
                        directory = waiting.pop(0)
                        running[directory] = Running(directory, jobs[directory], free.pop(0))
                    time.sleep(LOOK_EVERY)
                    if time.monotonic() - told_at > 60 * sweep.status_minutes:
                        told_at = time.monotonic()
                        log.info("running: %s", ", ".join(map(str, running.values())))
                    for directory, job in list(running.items()):
                        job.stop_if_due(stop.is_set(), sweep.job_minutes, grace)
                        if (status := job.process.poll()) is None:
                            continue
                        free.append(running.pop(directory).share)
                        if not stop.is_set():
                            ended = returned(directory, status, directory / OUTPUT, job.state)
                            self.note(directory, ended)
                    if self.gives_up():
                        waiting.clear()
                if stop.is_set():
                    raise Stopped(stop.signal)
        except Stopped as stopped:
            for job in running.values():  # after a second signal
                os.killpg(job.process.pid, signal.SIGKILL)
            stopped.go_on = runs.go_on_command(self.composed.name)
            requeue(stopped, self.composed.requeue)
            raise

    def _shares(self, jobs: Iterable[list[str]]) -> list[dict[str, str]]:
        """What the environment of a job says it may use, one for each that runs at once."""
        from .devices import cores_here

        key = "training.run.devices="
        asked = [o.removeprefix(key) for job in jobs for o in job if o.startswith(key)]
        asked = asked or [str(self.composed.training.run.devices)]
        each = max(int(devices) if devices.isdigit() else 1 for devices in asked)
        gpus = visible_gpus() if self.composed.training.run.device in ("auto", "cuda") else []
        most = max(1, (len(gpus) or cores_here()) // each)
        count = most if self.at_once == "auto" else int(self.at_once)
        threads = str(max(1, cores_here() // count // each))
        share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
        if not gpus:
            return [share] * count
        turns = itertools.cycle(gpus)
        mine = [",".join(itertools.islice(turns, each)) for _ in range(count)]
        return [share | {"CUDA_VISIBLE_DEVICES": numbers} for numbers in mine]


def _ended(status: Any) -> str:
    """`ended by SIGKILL`, as a shell or Python gives a signal, or `status 1`."""
    if not isinstance(status, int) or 0 <= status <= 128:
        return f"status {status}"
    return f"ended by {signal.Signals(status - 128 if status > 0 else -status).name}"


def visible_gpus() -> list[str]:
    """The GPUs here, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if named != [""] else [str(number) for number in range(count)]


@dataclass
class Command:
    """A job of submitit: train.py in its own process, which requeues it ahead of a time limit."""

    arguments: list[str]
    environment: dict[str, str]

    def __call__(self) -> None:
        """Run train.py as the command line would. Raises RuntimeError if it failed."""
        os.environ.update(self.environment)
        sys.argv = [str(PROJECT / "train.py"), *self.arguments]
        sys.path.insert(0, str(PROJECT))
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as leaving:
            if leaving.code == -1:  # submitit's own way out, once it has requeued the job
                raise
            if leaving.code:
                raise RuntimeError(_ended(leaving.code)) from None

    def checkpoint(self) -> Any:
        """What the requeued job runs: the same, which goes on by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm(_Launcher):
    """A Slurm job for each, submitted by submitit as one array; waits for all of them."""

    def __init__(self, **asked: Any) -> None:
        self.asked = asked

    def run(self, jobs: dict[Path, list[str]]) -> None:
        """Submit what is not in the queue already, and wait. Ctrl-C leaves the jobs there."""
        active = {job for job, state in queued().items() if state not in ENDED}
        environment = {PART_OF_A_SWEEP: "1", "RUN_NAME": self.composed.name}
        new = {
            directory: Command(arguments, environment)
            for directory, arguments in jobs.items()
            if slurm_id(directory) not in active
        }
        if new:
            self._submit(new)
        log.info("%d jobs submitted, %d there before", len(new), len(jobs) - len(new))
        try:
            self._wait({directory: slurm_id(directory) for directory in jobs})
        except KeyboardInterrupt:
            log.info("the jobs stay in the queue: squeue --me, scancel JOB")
            raise Stopped(signal.SIGINT, runs.go_on_command(self.composed.name)) from None

    def _submit(self, new: dict[Path, Command]) -> None:
        import submitit

        timeouts = self.composed.slurm.max_timeouts
        executor = submitit.AutoExecutor(self._folder(), "slurm", slurm_max_num_timeout=timeouts)
        executor.update_parameters(**{key: value for key, value in self.asked.items() if value})
        try:
            with executor.batch():
                jobs = [executor.submit(command) for command in new.values()]
        except submitit.core.utils.FailedJobError as error:
            said = str(error).strip().splitlines()[-1]
            raise UserError(f"Slurm refuses the jobs: {said}") from None
        for job, directory in zip(jobs, new, strict=True):
            directory.mkdir(parents=True, exist_ok=True)
            (directory / SLURM_ID).write_text(job.job_id)
            log.info("%s: Slurm job %s", directory.name, job.job_id)

    def _folder(self) -> Path:
        return Path(self.composed.hydra.sweep.dir, ".submitit", "%j")

    def _wait(self, waiting: dict[Path, str]) -> None:
        gone: set[str] = set()  # those that had left the queue one look before
        while waiting:
            time.sleep(SLURM_EVERY)
            try:
                states = queued()
            except UserError as error:  # a busy cluster does not always answer
                log.warning("%s", error)
                continue
            still = {job for job, state in states.items() if state not in ENDED}
            for directory, job in list(waiting.items()):
                if job in gone - still:
                    del waiting[directory]
                    self.note(directory, self._returned(directory, job, states.get(job, "")))
            gone = set(waiting.values()) - still
            if waiting and self.gives_up():
                subprocess.run(["scancel", "--state=PENDING", *waiting.values()])

    def _returned(self, directory: Path, job: str, last: str) -> JobReturn:
        from submitit.core.utils import JobPaths, pickle_load

        paths = JobPaths(self._folder(), job_id=job, task_id=0)
        # Slurm forgets a job after some minutes, and one of an array at once if it never began
        state = ENDED.get(last, "lost" if paths.stdout.exists() else "cancelled")
        said = f"ended by Slurm ({last or 'it is no longer in the queue'})"
        if paths.result_pickle.exists():
            outcome, said = pickle_load(paths.result_pickle)
            if outcome == "success":
                return returned(directory, 0, paths.stdout)
            state = ENDED.get(last, "failed")
            said = said.splitlines()[-1].removeprefix("RuntimeError: ")
        return returned(directory, said, paths.stderr, state)


def launcher_problems(launcher: str, settings: DictConfig) -> Iterator[str]:
    """What keeps hydra/launcher=local or slurm from working here."""
    at_once = settings.get("at_once", "auto")
    if launcher == "local" and at_once != "auto" and not (isinstance(at_once, int) and at_once > 0):
        yield f"hydra.launcher.at_once = {at_once}: expected a number of jobs, 1 or more, or auto"
    if launcher == "slurm" and not importlib.util.find_spec("submitit"):
        yield "hydra/launcher=slurm: the package submitit is missing\npip install -e '.[slurm]'"
    if launcher == "slurm" and not shutil.which("squeue"):
        yield (
            "hydra/launcher=slurm: there is no Slurm here (no squeue)\n"
            "give the command on a machine of the cluster, or hydra/launcher=local"
        )


def slurm_id(directory: Path) -> str:
    """The Slurm job that works in a directory, or did."""
    file = directory / SLURM_ID
    return file.read_text().strip() if file.exists() else ""


def queued() -> dict[str, str]:
    """The state of this user's jobs by id, for some minutes after they ended too.

    Raises UserError if Slurm does not answer.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise UserError(f"hydra/launcher=slurm: {' '.join(said)}")
    return dict(line.split() for line in done.stdout.splitlines())
