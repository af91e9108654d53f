"""Types of conf/data; `kind` selects the dataset."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from ..engine.types import FixedOrder, Range, ResumeSafe, Text, conflict
from ..own_files import Counted, OwnFiles
from .model import Model


def _check_unique(vocabulary: str) -> str:
    if len(set(vocabulary)) < len(vocabulary):
        raise ValueError("each symbol once")
    return vocabulary


Vocabulary = Annotated[Text, AfterValidator(_check_unique)]


class Dialtones(Counted):
    """conf/data/dialtones.yaml: telephone keys, generated during training."""

    kind: Literal["dialtones"]
    vocabulary: FixedOrder[Vocabulary]
    row_hz: Annotated[list[PositiveFloat], Field(min_length=1)]
    column_hz: Annotated[list[PositiveFloat], Field(min_length=1)]
    symbols: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    tone_seconds: Range
    pause_seconds: Range
    edge_seconds: Range
    level_db: Range
    twist_db: Range
    frequency_offset: Range
    noise_db: Range

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = len(self.row_hz) * len(self.column_hz)
        if len(self.vocabulary) != keys:
            raise conflict("vocabulary", f"{keys} symbols, one for each row and column")
        if self.symbols[0] > self.symbols[1]:
            raise conflict("symbols", "[lowest, highest], the lowest first")
        for key in ("tone_seconds", "pause_seconds", "edge_seconds"):
            if getattr(self, key)[0] < 0:
                raise conflict(key, "seconds, 0 or more")
        if self.tone_seconds[0] == 0:
            raise conflict("tone_seconds", "above 0: a key must be audible")
        return self


class Manifest(OwnFiles):
    """conf/data/manifest.yaml: the user's own recordings."""

    kind: Literal["manifest"]
    vocabulary: FixedOrder[Vocabulary]
    check_headers: ResumeSafe[PositiveInt | None]
    thorough_headers: ResumeSafe[PositiveInt | None]


Data = Annotated[Dialtones | Manifest, Field(discriminator="kind")]


def check_against_model(data: Dialtones | Manifest, model: Model) -> None:
    """Raises if the model's sample rate cannot represent the highest tone of the data."""
    if isinstance(data, Dialtones):
        highest = max(data.column_hz) * (1 + data.frequency_offset[1])
        if highest >= model.encoder.sample_rate / 2:
            rate = 2 * highest
            raise conflict("model.encoder.sample_rate", f"above {rate:.0f} Hz, to hold the tones")
