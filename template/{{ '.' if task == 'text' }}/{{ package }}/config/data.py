"""Types of conf/data; `kind` selects the dataset."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ..engine.config import Dataset
from ..engine.types import ResumeSafe, Section, Text, conflict
from ..own_files import Folded, OwnFiles, or_fraction
from .model import Model

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
NameOrFraction = Annotated[str | float, or_fraction("a split of the dataset")]


class Bytes(Section):
    """conf/data/tokenizer/bytes.yaml."""

    kind: Literal["bytes"]


class Trained(Section):
    """conf/data/tokenizer/trained.yaml."""

    kind: Literal["trained"]
    vocabulary: Annotated[int, Field(gt=256)]
    path: Text


class File(Section):
    """conf/data/tokenizer/file.yaml."""

    kind: Literal["file"]
    path: Text


Tokenizer = Annotated[Bytes | Trained | File, Field(discriminator="kind")]


class Items(Section):
    """How many windows of each split are used, spread evenly; None for all."""

    train: PositiveInt | None
    valid: ResumeSafe[PositiveInt | None]
    test: ResumeSafe[PositiveInt | None]


class Texts(Dataset):
    """What all datasets have."""

    tokenizer: Tokenizer
    items: Items
    cache: ResumeSafe[Text]


class Stdlib(Folded, Texts):
    """conf/data/stdlib.yaml: the sources of Python's standard library."""

    kind: Literal["stdlib"]
    valid: Fraction
    test: Fraction


class TextFiles(OwnFiles, Texts):
    """conf/data/text_files.yaml: the user's own texts."""

    kind: Literal["text_files"]
    suffixes: list[Text]
    field: Text
    check_documents: ResumeSafe[PositiveInt | None]


class Hub(OwnFiles, Texts):
    """conf/data/hub.yaml: a Hugging Face dataset; `train`, `valid` and `test` name its splits."""

    kind: Literal["hub"]
    dataset: Text
    valid: NameOrFraction
    test: NameOrFraction
    subset: Text | None
    revision: Text | None
    field: Text

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        for key in ("valid", "test"):
            if getattr(self, key) == self.train:
                raise conflict(key, "another split than data.train, or a fraction of it")
        return self


Data = Annotated[Stdlib | TextFiles | Hub, Field(discriminator="kind")]


def check_against_model(data: Data, model: Model) -> None:
    """Nothing to check: the model's vocabulary is that of the tokenizer."""
