"""Optional parts of the engine, which the answers to the template's questions render."""

from importlib import import_module
from typing import Any


def find_part(name: str) -> Any:
    """An optional module, such as report.curves, or None if it was not rendered."""
    try:
        return import_module(f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(str(__package__)):
            raise  # the part needs a missing library
        return None
