"""Types of conf/training."""

from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ..engine.schema import Harmless, Section, conflict

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


def _number_or_auto(value: object) -> object:
    if value != "auto" and not (type(value) is int and value > 0):
        raise ValueError("a number of processes, 1 or more, or auto")
    return value


Devices = Annotated[PositiveInt | Literal["auto"], BeforeValidator(_number_or_auto)]


class Run(Section):
    """How long, on what, and how often the run looks up."""

    iter_num: PositiveInt
    """Optimizer steps."""
    seed: NonNegativeInt
    device: Harmless[Literal["auto", "cuda", "mps", "cpu"]]
    devices: Harmless[Devices]
    """Processes that train together, one for each device."""
    precision: Literal["fp32", "tf32", "bf16"]
    compile: Harmless[bool]
    compile_dynamic: Harmless[bool | None]
    accumulate: PositiveInt
    """Micro-batches per iteration; they share `loader.batch_size`."""
    deterministic: Harmless[bool]
    log_every: Harmless[PositiveInt]
    """Iterations, like the other cadences."""
    eval_every: Harmless[PositiveInt]
    eval_batches: Harmless[PositiveInt | None]
    estimate_after: Harmless[Annotated[int, Field(ge=2)]]
    """Iterations; the first one is slow and does not count."""
    patience: Harmless[PositiveInt | None]
    """Evaluations."""
    on_nonfinite: Harmless[Literal["stop", "skip"]]
    """What a loss or gradient that is NaN or infinite leads to."""
    skip_at_most: Harmless[NonNegativeInt]
    """Iterations in a row."""
    keep_freed_mb: Harmless[Annotated[int, Field(ge=1, le=2047)] | None]
    profile: Harmless[bool]
    """Trace a few iterations, as `profiler` says."""


class Scheduler(Section):
    """The learning rate: linear warmup from 0 to `lr`, then the named curve down."""

    name: Literal["cosine", "linear", "constant"]
    warmup_steps: NonNegativeInt
    final_ratio: Share


class Optim(Section):
    """The optimizer."""

    name: Literal["adamw", "sgd"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]
    grad_clip: PositiveFloat | None
    scheduler: Scheduler


class Loader(Section):
    """Batches."""

    batch_size: PositiveInt
    limit: PositiveInt | None
    """Items of the training split that are used, the first ones."""
    bucket: PositiveInt | None
    """Batches whose items are sorted by length together, so that each pads little."""
    num_workers: Harmless[NonNegativeInt]
    """0 reads the data in the training process itself."""
    timeout_seconds: Harmless[PositiveInt]
    """Without a batch from the workers the run ends."""
    stop_seconds: Harmless[PositiveInt]
    """After a signal; longer, and the run stops without a batch that it waits for."""


class Checkpoint(Section):
    """When checkpoints are written, and which are kept."""

    every: Harmless[PositiveInt]
    """Iterations."""
    every_minutes: Harmless[PositiveFloat | None]
    keep_last: Harmless[PositiveInt]


class Profiler(Section):
    """What a trace holds."""

    wait: NonNegativeInt
    """Iterations before it; the first ones are slow."""
    record: PositiveInt
    """Iterations in it."""


class Processes(Section):
    """How those of several devices or nodes find each other, and how they end."""

    nodes: PositiveInt
    node: NonNegativeInt
    """Which of them this is, counted from 0."""
    first_node: Annotated[str, Field(min_length=1)]
    """The host where the others find node 0."""
    port: Annotated[int, Field(ge=1, le=65535)]
    join_seconds: PositiveInt
    shutdown_seconds: PositiveInt
    takeover_seconds: NonNegativeInt
    """How long a requeued Slurm job waits for its earlier process to save and leave."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.node >= self.nodes > 1:
            raise conflict("node", f"below nodes ({self.nodes}); they count from 0")
        return self


class Objective(Section):
    """The metric that a run is judged by: one of METRICS in checks.py."""

    metric: Harmless[Annotated[str, Field(min_length=1)]]


class Training(Section):
    """conf/training/*.yaml."""

    run: Run
    optim: Optim
    loader: Loader
    checkpoint: Checkpoint
    profiler: Harmless[Profiler]
    processes: Harmless[Processes]
    objective: Objective

    @model_validator(mode="after")
    def _check(self) -> Self:
        warmup_steps, iter_num = self.optim.scheduler.warmup_steps, self.run.iter_num
        if warmup_steps >= iter_num:
            raise conflict("optim.scheduler.warmup_steps", f"below run.iter_num ({iter_num})")
        needed = self.profiler.wait + self.profiler.record
        if self.run.profile and needed > iter_num:
            wait = self.profiler.wait
            expected = f"with profiler.wait ({wait}) no more than run.iter_num ({iter_num})"
            raise conflict("profiler.record", expected)
        if self.loader.batch_size % self.run.accumulate:
            raise conflict(
                "loader.batch_size", f"a multiple of run.accumulate ({self.run.accumulate})"
            )
        return self
