"""Types of conf/training: the engine's, with the optimizer and this project's other keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from ..engine.config import Training as EngineTraining
from ..engine.types import Section, conflict

Fraction = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Scheduler(Section):
    """The learning rate: linear warmup from 0 to `lr`, then the named curve down."""

    name: Literal["cosine", "linear", "constant"]
    warmup_steps: NonNegativeInt
    final_ratio: Fraction


class Optim(Section):
    """The optimizer."""

    name: Literal["adamw", "sgd"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]
    grad_clip: PositiveFloat | None
    scheduler: Scheduler


class Training(EngineTraining):
    """conf/training/*.yaml."""

    optim: Optim

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.optim.scheduler.warmup_steps >= self.run.iter_num:
            expected = f"below run.iter_num ({self.run.iter_num})"
            raise conflict("optim.scheduler.warmup_steps", expected)
        return self
