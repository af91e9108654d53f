# Kept by the template; an update merges what you change here.
"""Where the jobs of --multirun run: hydra/launcher=local and hydra/launcher=slurm. No torch here.

A job is a command line, python train.py …, in a process of its own: one that dies takes no other
with it, and a GPU is its own.
"""

import importlib.util
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from . import runs
from .composing import PROJECT
from .errors import Stopped, UserError
from .stopping import Stop, requeue

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]

OUTPUT = "output.log"
PART_OF_A_SWEEP = "PART_OF_A_SWEEP"  # in the environment of a job: others tell what came of it
OF_THE_SWEEP = ("hydra.mode", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher")
SLURM_ID = "slurm.id"
LOOK_EVERY = 0.1  # seconds
SLURM_EVERY = 2.0  # seconds; squeue is the cluster's, and shared


class _Launcher(Launcher):
    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.composed = config

    def directory(self, overrides: Sequence[str]) -> Path:
        """Where a job works: what our sweeper says, else the name of all its overrides."""
        given = [o for o in overrides if o.startswith("hydra.sweep.subdir=")]
        name = given[0].partition("=")[2].strip("'") if given else runs.job_name(overrides)
        return Path(self.composed.hydra.sweep.dir, name)

    def command(self, overrides: Sequence[str], directory: Path) -> list[str]:
        """The arguments of train.py for one job."""
        subdir = f"hydra.sweep.subdir='{directory.name}'"
        theirs = [o for o in self.composed.hydra.overrides.hydra if not o.startswith(OF_THE_SWEEP)]
        job = [o for o in overrides if not o.startswith("hydra.sweep.subdir=")]
        return ["--multirun", *job, *theirs, "hydra/launcher=basic", subdir]


def returned(directory: Path, status: int | str, output: Path) -> JobReturn:
    """What a job that has ended gives back: its objective, or what went wrong."""
    record = runs.read_record(directory)
    if status == 0:
        return JobReturn(_return_value=record.get("objective"), status=JobStatus.COMPLETED)
    known = record.get("error") if record.get("state") == "failed" else None
    said = _ended(status) if isinstance(status, int) else status
    error = f"{known or said}; see {runs.shorter(output.absolute())}"
    return JobReturn(_return_value=RuntimeError(error), status=JobStatus.FAILED)


class Local(_Launcher):
    """Several jobs at a time on this machine, each with GPUs of its own."""

    def __init__(self, at_once: int | str) -> None:
        self.at_once = at_once

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and wait for them; a signal is passed on to them.

        Raises Stopped after it. Returns fewer if one has failed and sweep.on_error is stop.
        """
        directories = [self.directory(overrides) for overrides in job_overrides]
        free = self._shares(job_overrides)
        if len(job_overrides) > 1:
            log.info("%d jobs, %d at once", len(job_overrides), min(len(free), len(job_overrides)))
        waiting = list(range(len(job_overrides)))
        running: dict[int, tuple[Process, dict[str, str]]] = {}
        done: dict[int, JobReturn] = {}
        with Stop() as stop:
            try:
                told = False
                while running or (waiting and not stop.is_set()):
                    while waiting and free and not stop.is_set():
                        number, share = waiting.pop(0), free.pop(0)
                        process = self._start(job_overrides[number], directories[number], share)
                        running[number] = process, share
                    time.sleep(LOOK_EVERY)
                    if stop.is_set() and not told:
                        told = True
                        for process, _ in running.values():
                            process.send_signal(signal.SIGTERM)
                    for number in [n for n, (p, _) in running.items() if p.poll() is not None]:
                        process, share = running.pop(number)
                        free.append(share)
                        where = directories[number]
                        done[number] = returned(where, process.returncode, where / OUTPUT)
                        if not stop.is_set():
                            _tell(where, done[number], len(done), len(job_overrides))
                        failed = done[number].status == JobStatus.FAILED
                        if failed and self.composed.sweep.on_error == "stop":
                            waiting.clear()
            except Stopped as again:
                again.go_on = runs.go_on_command(self.composed.name)
                for process, _ in running.values():
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if stop.is_set():
            stopped = Stopped(stop.signal, runs.go_on_command(self.composed.name))
            if requeue(stopped, self.composed.requeue):
                stopped.go_on = ""
            raise stopped
        return [done[number] for number in sorted(done)]

    def _shares(self, job_overrides: Sequence[Sequence[str]]) -> list[dict[str, str]]:
        """What the environment of a job says it may use, one for each that runs at once."""
        key = "training.run.devices="
        asked = [o.removeprefix(key) for job in job_overrides for o in job if o.startswith(key)]
        asked = asked or [str(self.composed.training.run.devices)]
        each = max(int(devices) if devices.isdigit() else 1 for devices in asked)
        gpus = visible_gpus() if self.composed.training.run.device in ("auto", "cuda") else []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        most = max(1, (len(gpus) or cores or 1) // each)
        count = most if self.at_once == "auto" else int(self.at_once)
        threads = str(max(1, (cores or 1) // count // each))
        shares = []
        for number in range(count):
            share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
            if gpus:
                mine = [gpus[(number * each + i) % len(gpus)] for i in range(each)]
                share["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
            shares.append(share)
        return shares

    def _start(self, overrides: Sequence[str], directory: Path, share: dict[str, str]) -> Process:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / OUTPUT).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, str(PROJECT / "train.py"), *self.command(overrides, directory)],
                env=os.environ | share | {PART_OF_A_SWEEP: "1", "RUN_NAME": self.composed.name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C reaches it once, from here
            )


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


def _tell(directory: Path, job: JobReturn, done: int, of: int) -> None:
    failed = job.status == JobStatus.FAILED
    what = f"failed, {str(job._return_value).splitlines()[0]}" if failed else "finished"
    log.info("%d/%d %s: %s", done, of, directory.name, what)


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
        self.asked = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in asked.items()
        }

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit what is not in the queue already, and wait. Ctrl-C leaves the jobs there."""
        directories = [self.directory(overrides) for overrides in job_overrides]
        in_queue = queued()
        new = [
            (Command(self.command(o, d), {PART_OF_A_SWEEP: "1", "RUN_NAME": self.composed.name}), d)
            for o, d in zip(job_overrides, directories, strict=True)
            if slurm_id(d) not in in_queue
        ]
        if new:
            self._submit(new)
        log.info("%d jobs submitted, %d there before", len(new), len(directories) - len(new))
        try:
            return self._wait(directories)
        except KeyboardInterrupt:
            log.info("the jobs stay in the queue: squeue --me, scancel JOB")
            raise Stopped(signal.SIGINT, runs.go_on_command(self.composed.name)) from None

    def _submit(self, new: list[tuple[Command, Path]]) -> None:
        import submitit

        asked = self.asked
        executor = submitit.AutoExecutor(
            folder=self._folder(), cluster="slurm", slurm_max_num_timeout=asked["max_timeouts"]
        )
        executor.update_parameters(
            name=self.composed.name,
            timeout_min=asked["minutes"],
            cpus_per_task=asked["cpus"],
            slurm_signal_delay_s=asked["warn_seconds"],
            slurm_array_parallelism=asked["max_jobs"],
            slurm_setup=asked["setup"],
            slurm_additional_parameters=asked["more"],
            **({"gpus_per_node": asked["gpus"]} if asked["gpus"] else {}),
            **({"mem_gb": asked["memory_gb"]} if asked["memory_gb"] else {}),
            **({"slurm_partition": asked["partition"]} if asked["partition"] else {}),
            **({"slurm_account": asked["account"]} if asked["account"] else {}),
        )
        try:
            with executor.batch():
                jobs = [executor.submit(command) for command, _ in new]
        except submitit.core.utils.FailedJobError as error:
            raise UserError(
                f"Slurm refuses the jobs: {str(error).strip().splitlines()[-1]}"
            ) from None
        for job, (_, directory) in zip(jobs, new, strict=True):
            directory.mkdir(parents=True, exist_ok=True)
            (directory / SLURM_ID).write_text(job.job_id)
            log.info("%s: Slurm job %s", directory.name, job.job_id)

    def _folder(self) -> Path:
        return Path(self.composed.hydra.sweep.dir, ".submitit", "%j")

    def _wait(self, directories: list[Path]) -> list[JobReturn]:
        waiting = {directory: slurm_id(directory) for directory in directories}
        ended: dict[Path, JobReturn] = {}
        gone: set[str] = set()  # seen to have left the queue, one look before
        while waiting:
            time.sleep(SLURM_EVERY)
            try:
                in_queue = queued()
            except UserError as error:  # a busy cluster does not always answer
                log.warning("%s", error)
                continue
            for directory, job in list(waiting.items()):
                if job in in_queue:
                    gone.discard(job)
                elif job not in gone:
                    gone.add(job)
                else:
                    del waiting[directory]
                    ended[directory] = self._returned(directory, job)
                    _tell(directory, ended[directory], len(ended), len(directories))
            failed = any(job.status == JobStatus.FAILED for job in ended.values())
            if failed and waiting and self.composed.sweep.on_error == "stop":
                subprocess.run(["scancel", "--state=PENDING", *waiting.values()])
        return [ended[directory] for directory in directories]

    def _returned(self, directory: Path, job: str) -> JobReturn:
        from submitit.core.utils import JobPaths, pickle_load

        paths = JobPaths(self._folder(), job_id=job, task_id=0)
        if paths.result_pickle.exists():
            outcome, said = pickle_load(paths.result_pickle)
            if outcome == "success":
                return returned(directory, 0, paths.stdout)
            said = said.splitlines()[-1].removeprefix("RuntimeError: ")
            return returned(directory, said, paths.stderr)
        if not directory.joinpath(".hydra").exists() and not paths.stdout.exists():
            return JobReturn()  # cancelled before it began
        return returned(directory, "ended by Slurm (time, memory or scancel)", paths.stderr)


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


def queued() -> set[str]:
    """The ids of this user's jobs that wait or run. Raises UserError if Slurm does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise UserError(f"hydra/launcher=slurm: {' '.join(said)}")
    return set(done.stdout.split())
