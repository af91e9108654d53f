"""Types of conf/data."""

from typing import Literal

from ..engine.config import Dataset
from ..engine.types import Section, Text
from .model import Model


class Words(Section):
    train: list[Text]
    valid: list[Text]
    test: list[Text]


class Data(Dataset):
    kind: Literal["topics"]
    vocabulary: Text
    topics: dict[str, Words]
    sentences: list[Text]


def check_against_model(data: Data, model: Model) -> None:
    """Nothing to compare."""
