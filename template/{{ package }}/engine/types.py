"""Building blocks of config types. No torch here: config errors are reported at once."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

T = TypeVar("T")

RESUME_SAFE = "resume safe"
ResumeSafe = Annotated[T, RESUME_SAFE]
"""Marks a key that a resumed run may change: the weights do not depend on it."""

FIXED_ORDER = "fixed order"
FixedOrder = Annotated[T, FIXED_ORDER]
"""Marks a list whose order is baked into the weights (class i is row i): append, never reorder."""


class Section(BaseModel):
    """A mapping in the config: every key is required, any other is an error, nothing is guessed."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


def conflict(key: str, expected: str) -> PydanticCustomError:
    """Raise this from a validator where two keys disagree; `key` is relative to the section."""
    return PydanticCustomError("conflict", "{expected}", {"key": key, "expected": expected})


Text = Annotated[str, Field(min_length=1)]
"""A non-empty string; one that looks like a number or a boolean needs quotes in YAML."""


def _check_order(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError("[lowest, highest], the lowest first")
    return bounds


Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_check_order)]
"""[lowest, highest], both included."""


def marked_keys(section: BaseModel, mark: str, path: str = "") -> set[str]:
    """The keys with this mark, in this section and those below it."""
    keys = set()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if mark in field.metadata:
            keys.add(path + name)
        elif isinstance(value, BaseModel):
            keys |= marked_keys(value, mark, f"{path}{name}.")
    return keys


def alternatives(kind: Any) -> list[Any]:
    """The types that a value may have: those of a union, and what Annotated wraps."""
    if get_origin(kind) is Annotated:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for part in get_args(kind) for one in alternatives(part)]
    return [kind]


def is_section(kind: Any) -> bool:
    """Whether a type is a section, or each of its alternatives is."""
    return all(isinstance(one, type) and issubclass(one, Section) for one in alternatives(kind))


def groups(config: type[BaseModel], but: str = "") -> list[str]:
    """The keys that are sections, without those that have the mark `but`."""
    fields = config.model_fields.items()
    return [n for n, field in fields if is_section(field.annotation) and but not in field.metadata]


def fields(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each key and section below a section, with its field, whatever the schema."""
    for name, field in section.model_fields.items():
        yield path + name, field
        for kind in alternatives(field.annotation):
            if is_section(kind):
                yield from fields(kind, f"{path}{name}.")


def text_keys(section: type[BaseModel]) -> set[str]:
    """The keys below a section whose values are text and nothing else, whatever the schema."""
    kinds: dict[str, set[Any]] = {}
    for key, field in fields(section):
        for kind in alternatives(field.annotation):
            if not is_section(kind):
                items = get_args(kind) if get_origin(kind) is list else (kind,)
                kinds.setdefault(key, set()).update(alternatives(items[0]))
    return {key for key, found in kinds.items() if str in found <= {str, type(None)}}
