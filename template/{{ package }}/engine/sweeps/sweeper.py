"""The sweeper behind --multirun: starts the jobs that have not finished, and compares them."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from omegaconf import DictConfig

from .. import find_part
from ..errors import exit_on_user_error
from ..run_dir.code import run_copy
from ..run_dir.lock import holder
from ..run_dir.paths import JOB_DIR, read_record, relative
from .grid import Job, Queue, assign_directories, grid_jobs, search_space

if TYPE_CHECKING:
    from ..project import Project

log = logging.getLogger(__name__)

ERROR = re.compile(r"^[\w.]+Error: .+", re.MULTILINE)  # the last line of a traceback
LEFT_OUT = ("hydra.mode", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher", "wait=")


class Launcher(HydraLauncher):
    """Starts each job as python train.py in its own process, so that a crash ends no other."""

    load_project: Callable[[], "Project"]

    @exit_on_user_error()
    def setup(self, *, config: DictConfig, **_: Any) -> None:
        """Called by Hydra."""
        run_copy(self.load_project().root, config, Path(config.hydra.sweep.dir))
        self.composed = config
        self.metric = config.training.objective.metric
        self.ended: list[Job] = []
        self.values: list[tuple[float, str]] = []  # objectives, each with the name of its job

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs for a sweeper of another package."""
        sweep_dir = Path(self.composed.hydra.sweep.dir)
        given = [list(overrides) for overrides in job_overrides]
        jobs = assign_directories(self.load_project(), given, sweep_dir, set())
        self.ended = []
        self.run(Queue(jobs))
        returned = []
        for job in jobs:
            status, value = JobStatus.COMPLETED, read_record(job.directory).get("objective")
            if job.state != "finished":
                status, value = JobStatus.FAILED, RuntimeError(job.message)
            returned.append(JobReturn(status=status, _return_value=value))
        return returned

    def run(self, queue: Queue) -> None:
        """Run the jobs, wait for them, and set their states. Raises Stopped after a signal."""
        raise NotImplementedError

    def command(self, job: Job) -> tuple[Path, list[str], dict[str, str]]:
        """The train.py of a job, its arguments (Hydra's own for all jobs too), its environment."""
        given = [*job.overrides, *self.composed.hydra.overrides.hydra]
        arguments = [override for override in given if not override.startswith(LEFT_OUT)]
        variables = {JOB_DIR: str(job.directory), "RUN_NAME": str(self.composed.name)}
        return self.load_project().root / "train.py", arguments, variables

    def report_end(self, job: Job, total: int, state: str, message: str, output: Path) -> None:
        """Set the state of a job that has ended, and log it."""
        job.state, job.message = state, message
        if state == "failed":
            record = read_record(job.directory)
            job.message = record.get("error", message) if record.get("state") == state else message
            if other := holder(job.directory):  # it failed because another process trains there
                job.state, job.message = "in use", other
        if job.state == "failed" and job.message.startswith("status ") and output.is_file():
            errors = ERROR.findall(output.read_text("utf-8", errors="replace"))
            job.message = ", ".join([job.message, *errors[-1:]])
        self.ended.append(job)
        text = job.state
        if job.state not in ("finished", "pruned"):
            text += f", {job.reason}"
            text += f"; see {relative(output.absolute())}" if output.exists() else ""
        elif (value := read_record(job.directory).get("objective")) is not None:
            self.values.append((value, job.directory.name))
            text += f", {self.metric} {value:.4g}; {self.best()}"
        log.info("%d/%d %s: %s", len(self.ended), total, job.directory.name, text)

    def best(self) -> str:
        """The best objective of this command's jobs so far, and its job; empty without one."""
        if not self.values:
            return ""
        pick = max if self.load_project().goal(self.metric) == "maximize" else min
        value, name = pick(self.values)
        return f"best {self.metric} {value:.4g} ({name})"

    def gives_up(self) -> bool:
        """Whether no other job may start, since one has failed."""
        failed = any(job.state == "failed" for job in self.ended)
        return failed and self.composed.sweep.on_error == "stop"


class Sweeper(HydraSweeper):
    """Runs a grid or a search."""

    load_project: Callable[[], "Project"]

    def __init__(self, params: DictConfig) -> None:
        self.params = params

    def setup(self, *, config: DictConfig, **context: Any) -> None:
        """Called by Hydra."""
        self.composed = config
        self.jobs_launcher: Any = Plugins.instance().instantiate_launcher(config=config, **context)

    @exit_on_user_error()
    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs. Exits with status 1 unless all finish, or wait in a queue."""
        sweep_dir = Path(self.composed.hydra.sweep.dir)
        project, search = self.load_project(), None
        overrides = [*search_space(project.conf, self.params, arguments), *arguments]
        if is_grid(self.composed):
            unfinished = self.run_jobs(grid_jobs(project, overrides, sweep_dir))
        else:
            search = find_part("sweeps.search").Search(project, overrides, self.composed)
            unfinished = search.run(self.jobs_launcher)
        if self.composed.mode == "train":
            from .table import print_table

            print_table(project, self.composed, unfinished)
        if search:
            search.print_summary()
        if {job.state for job in unfinished.values()} - {"waiting", "running"}:
            raise SystemExit(1)

    def run_jobs(self, jobs: list[Job]) -> dict[Path, Job]:
        """Run the jobs that have not finished; return those that still have not, by directory."""
        from ..checkpoints.resume import is_finished
        from ..compose.validate import Checker

        checker = Checker(project := self.load_project())
        waiting, configs = [], {}
        for job in {job.directory: job for job in jobs}.values():
            cfg = configs[job.directory] = checker.check(job.overrides)
            if cfg.mode == "train" and is_finished(project, cfg, job.directory):
                log.info("finished before: %s", job.directory.name)
            else:
                waiting.append(job)
        if waiting:
            self.jobs_launcher.run(Queue(waiting))
        if skipped := [job for job in waiting if not job.state]:
            log.info("%d jobs are not started after the failure", len(skipped))
        ended = {job.directory: job for job in waiting if job.state not in ("", "finished")}
        # another command may have finished one that was in use
        return {at: ended[at] for at in ended if not is_finished(project, configs[at], at)}


def is_grid(composed: DictConfig) -> bool:
    """Whether the jobs are known from the start; those of a search are not."""
    if composed.mode not in ("train", "check"):
        return True
    return is_ours(composed) and composed.sweep.get("sampler", "grid") == "grid"


def is_ours(composed: DictConfig) -> bool:
    """Whether the sweeper is this module's, not another package's."""
    return str(composed.hydra.sweeper._target_).endswith("_sweeps.Sweeper")
