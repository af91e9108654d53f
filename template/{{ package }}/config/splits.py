"""Types of the splits of your own files."""

from typing import Annotated

from pydantic import BeforeValidator, NonNegativeInt

from ..engine.config import Dataset
from ..engine.types import Text


def _check_split(value: object) -> object:
    is_path = isinstance(value, str) and value
    if not is_path and not (isinstance(value, float) and 0 < value < 0.5):
        raise ValueError("a path, or a fraction of train below 0.5")
    return value


PathOrFraction = Annotated[str | float, BeforeValidator(_check_split)]


class OwnFiles(Dataset):
    """A dataset in files of your own."""

    train: Text
    valid: PathOrFraction
    """Its path, or the fraction of `train` that is held out for it."""
    test: PathOrFraction
    seed: NonNegativeInt
    """Draws what fractions hold out."""
