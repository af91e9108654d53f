"""Types of what --multirun does, and of what its jobs ask a Slurm cluster for."""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from ..engine.schema import Section, Text


class Sweep(Section):
    """A grid, or a search with Optuna."""

    sampler: Literal["grid", "tpe", "random", "gp", "cmaes"]
    n_trials: PositiveInt
    """Of a search, in all."""
    parallel: PositiveInt
    """Trials at a time."""
    seed: NonNegativeInt
    on_error: Literal["continue", "stop"]
    """Whether other jobs begin after one has failed."""
    status_minutes: PositiveFloat
    """How often `hydra/launcher=local` says which jobs run."""
    job_minutes: PositiveFloat | None
    """After which `hydra/launcher=local` stops a job."""


class Slurm(Section):
    """What each job of hydra/launcher=slurm asks for."""

    partition: Text | None
    account: Text | None
    minutes: PositiveInt
    gpus: NonNegativeInt
    cpus: PositiveInt
    memory_gb: PositiveInt | None
    warn_seconds: PositiveInt
    """Before the time limit."""
    max_timeouts: NonNegativeInt
    max_jobs: PositiveInt
    """At one time."""
    setup: list[str]
    """Lines of shell before a job."""
    more: dict[str, Any]
    """Other options of sbatch."""
