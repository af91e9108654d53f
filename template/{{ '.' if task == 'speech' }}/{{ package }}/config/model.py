"""Types of conf/model; `kind` names the network."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ..engine.types import Section, conflict


class FrontEnd(Section):
    """From audio to spectrogram frames, and to fewer of them by subsampling."""

    sample_rate: PositiveInt
    """Hz."""
    window_samples: PositiveInt
    hop_samples: PositiveInt
    dynamic_range_db: PositiveFloat
    subsampling: PositiveInt
    """Spectrogram frames per encoder frame."""

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        if self.hop_samples > self.window_samples:
            raise conflict("hop_samples", f"at most window_samples ({self.window_samples})")
        if self.subsampling & (self.subsampling - 1):
            raise conflict("subsampling", "a power of two: 1, 2, 4, 8")
        return self


class Encoder(FrontEnd):
    """From audio to one vector per encoder frame."""

    dim: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    feedforward_ratio: PositiveInt
    kernel_frames: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dim % self.heads:
            raise conflict("dim", f"a multiple of heads ({self.heads})")
        if self.kernel_frames % 2 == 0:
            raise conflict("kernel_frames", "an odd number, so that a frame sees both sides alike")
        return self


class Attention(Section):
    """conf/model/base.yaml: convolutions and attention."""

    kind: Literal["attention"]
    encoder: Encoder


Model = Attention
