"""Types of conf/data; `kind` selects the dataset."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from ..engine.types import FixedOrder, Text, conflict
from ..own_files import Counted, OwnFiles
from .model import Model

Two = Annotated[list[Text], Field(min_length=2, max_length=2)]


class Spirals(Counted):
    """conf/data/spirals.yaml."""

    kind: Literal["spirals"]
    turns: PositiveFloat
    noise: NonNegativeFloat
    answer: Text
    features: FixedOrder[Two]
    classes: FixedOrder[Two]


class Table(OwnFiles):
    """conf/data/table.yaml: the user's own table."""

    kind: Literal["table"]
    answer: Text
    answer_kind: Literal["class", "number"]
    features: FixedOrder[list[Text]]
    classes: FixedOrder[list[Text]]

    def __hash__(self) -> int:
        return hash(repr(self))  # so that what is read can be cached

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("features", "classes"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise conflict(key, "each name once")
        if self.classes and self.answer_kind == "number":
            raise conflict("classes", "[] where data.answer_kind is number")
        if self.answer in self.features:
            raise conflict("features", f"columns without data.answer ({self.answer})")
        return self


Data = Annotated[Spirals | Table, Field(discriminator="kind")]


def check_against_model(data: Data, model: Model) -> None:
    """Nothing to check: the model has an input for each feature."""
