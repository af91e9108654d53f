# Kept by the template; an update merges what you change here.
"""What the types in config/ are built from. No torch here: a wrong config is told at once."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

T = TypeVar("T")

HARMLESS = "harmless"
Harmless = Annotated[T, HARMLESS]
"""Marks a key that a resumed run may change: what is learned does not depend on it."""

NUMBERED = "numbered"
Numbered = Annotated[T, NUMBERED]
"""Marks a list or text whose entries the weights know by their place: none may move to another."""


class Section(BaseModel):
    """A mapping in the config: every key is required, any other is an error, nothing is guessed."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


def conflict(key: str, expected: str) -> PydanticCustomError:
    """Raise this from a validator where two keys disagree; `key` is relative to the section."""
    return PydanticCustomError("conflict", "{expected}", {"key": key, "expected": expected})


def _in_order(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError("[lowest, highest], the lowest first")
    return bounds


Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_in_order)]
"""[lowest, highest], both included."""


def marked_keys(section: BaseModel, mark: str, path: str = "") -> set[str]:
    """The keys marked so in this section and those below it."""
    keys = set()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if mark in field.metadata:
            keys.add(path + name)
        elif isinstance(value, BaseModel):
            keys |= marked_keys(value, mark, f"{path}{name}.")
    return keys
