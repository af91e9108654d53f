"""Types of conf/data; `kind` selects the dataset."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from ..engine.config import Dataset
from ..engine.types import FixedOrder, Section, Text
from ..own_files import OwnFiles
from .model import Model


class Items(Section):
    """How many points each split has."""

    train: PositiveInt
    valid: PositiveInt
    test: PositiveInt


class Spirals(Dataset):
    """conf/data/spirals.yaml."""

    kind: Literal["spirals"]
    seed: NonNegativeInt
    items: Items
    classes: FixedOrder[Annotated[list[Text], Field(min_length=2, max_length=2)]]
    noise: NonNegativeFloat


class Table(OwnFiles):
    """conf/data/table.yaml: the user's own points."""

    kind: Literal["table"]
    classes: FixedOrder[list[Text]]


Data = Annotated[Spirals | Table, Field(discriminator="kind")]


def check_against_model(data: Data, model: Model) -> None:
    """Nothing to check: any model takes two coordinates."""
