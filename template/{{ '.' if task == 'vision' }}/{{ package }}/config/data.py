"""Types of conf/data; `kind` selects the dataset."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from ..engine.types import FixedOrder, Range, ResumeSafe, Section, Text, conflict
from ..own_files import Counted, OwnFiles
from .model import Model

Share = Annotated[float, Field(ge=0, le=1)]


def _check_classes(classes: list[str]) -> list[str]:
    if len(set(classes)) < len(classes):
        raise ValueError("each class once")
    if len(classes) == 1:
        raise ValueError("two classes or more, or [] until mode=describe finds them")
    return classes


def _check_positive(bounds: list[float]) -> list[float]:
    if bounds[0] <= 0:
        raise ValueError("above 0")
    return bounds


NOT_ONE = {"not": {"minItems": 1, "maxItems": 1}}  # as editors check it
Classes = Annotated[list[Text], Field(json_schema_extra=NOT_ONE), AfterValidator(_check_classes)]
Factors = Annotated[Range, AfterValidator(_check_positive)]


class Augment(Section):
    """Random augmentation of training pictures."""

    degrees: Range
    area: Factors
    """Fraction of the picture that a crop keeps."""
    aspect: Factors
    """Width / height of that crop."""
    flip: Share
    brightness: Factors
    contrast: Factors

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.area[1] > 1:
            raise conflict("area", "at most 1, the whole picture")
        return self


class Digits(Counted):
    """conf/data/digits.yaml: scikit-learn's handwritten digits."""

    kind: Literal["digits"]
    classes: FixedOrder[Classes]
    augment: Augment | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.classes != list("0123456789"):
            raise conflict("classes", "the digits 0 to 9, as the data number them")
        return self


class ImageFolder(OwnFiles):
    """conf/data/image_folder.yaml: the user's own pictures."""

    kind: Literal["image_folder"]
    classes: FixedOrder[Classes]
    check_files: ResumeSafe[PositiveInt | None]
    thorough_files: ResumeSafe[PositiveInt | None]
    augment: Augment | None


Data = Annotated[Digits | ImageFolder, Field(discriminator="kind")]


def check_against_model(data: Data, model: Model) -> None:
    """Nothing to check: pictures are resized to the model's input."""
