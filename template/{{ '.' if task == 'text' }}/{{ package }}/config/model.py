"""Types of conf/model."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ..engine.types import Section, conflict


class Model(Section):
    """conf/model/*.yaml: a decoder."""

    kind: Literal["decoder"]
    context: Annotated[int, Field(ge=2)]
    """Tokens that the model sees at most."""
    dim: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    feedforward_dim: PositiveInt
    rotary_base: PositiveFloat
    tied: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dim % (2 * self.heads):
            raise conflict("dim", f"a multiple of 2 * heads ({2 * self.heads})")
        return self
