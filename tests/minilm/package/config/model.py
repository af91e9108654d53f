"""Types of conf/model."""

from typing import Literal

from pydantic import PositiveInt

from ..engine.types import Section


class Model(Section):
    kind: Literal["bert"]
    vocabulary: PositiveInt
    positions: PositiveInt
    layers: PositiveInt
    dim: PositiveInt
    heads: PositiveInt
    feedforward: PositiveInt
