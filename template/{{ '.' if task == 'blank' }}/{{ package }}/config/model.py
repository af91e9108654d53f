"""Types of conf/model."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from ..engine.types import Section


class Model(Section):
    """conf/model/*.yaml."""

    kind: Literal["perceptron"]
    width: PositiveInt
    layers: PositiveInt
    """Hidden ones."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
