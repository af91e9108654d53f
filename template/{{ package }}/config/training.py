"""Types of conf/training: the engine's, with the optimizer and this project's other keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from ..engine.config import Training as EngineTraining
from ..engine.types import Section, conflict

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Decay], Field(min_length=2, max_length=2)]


class Constant(Section):
    """conf/training/optim/scheduler: linear warmup from 0 to `lr`, which then stays."""

    kind: Literal["constant"]
    warmup_steps: NonNegativeInt


class Curve(Section):
    """Linear warmup, then a curve down to `final_ratio` * `lr`."""

    kind: Literal["cosine", "linear"]
    warmup_steps: NonNegativeInt
    final_ratio: Fraction


class Wsd(Section):
    """Linear warmup, a constant rate, then linearly down to `final_ratio` * `lr`."""

    kind: Literal["wsd"]
    warmup_steps: NonNegativeInt
    decay_ratio: Annotated[float, Field(gt=0, le=1)]
    """Iterations that decay, of those after the warmup."""
    final_ratio: Fraction


Scheduler = Annotated[Constant | Curve | Wsd, Field(discriminator="kind")]


class Optimizer(Section):
    """The keys of every optimizer."""

    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    grad_clip: PositiveFloat | None
    scheduler: Scheduler


class AdamW(Optimizer):
    """conf/training/optim/adamw.yaml."""

    kind: Literal["adamw"]
    betas: Betas


class Sgd(Optimizer):
    """conf/training/optim/sgd.yaml."""

    kind: Literal["sgd"]
    momentum: Decay


class Muon(Optimizer):
    """conf/training/optim/muon.yaml: hidden matrices by Muon, other parameters by AdamW."""

    kind: Literal["muon"]
    momentum: Decay
    betas: Betas


Optim = Annotated[AdamW | Sgd | Muon, Field(discriminator="kind")]


class Training(EngineTraining):
    """conf/training/*.yaml."""

    optim: Optim
    ema: Decay | None
    """Decay of an average of the weights, which is evaluated and saved."""

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.optim.scheduler.warmup_steps >= self.run.iter_num:
            expected = f"below run.iter_num ({self.run.iter_num})"
            raise conflict("optim.scheduler.warmup_steps", expected)
        return self
