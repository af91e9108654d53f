"""What the tests that run for every task need to know of each: a module for each task."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Data of one's own as the README names it, and what may be wrong with it."""

    name: str
    """What mode=describe calls it."""
    write: Callable[[Path], None]
    """Write it to the project's folder."""
    is_learned: Callable[[dict[str, float]], bool]
    """Whether the metrics on its test split are good enough."""
    spoil: str
    """A command of the shell that writes flawed data beside it …"""
    spoiled: str
    """… the overrides that read those …"""
    mended_by: set[str]
    """… and the programs that the messages name to mend them, beside python."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of the choices of `task`."""

    name: str
    words: str
    """A pattern of its own words, which files that all tasks share must not have."""
    metric: str
    embedded: str
    """The dataset that needs no file."""
    tested: int
    """Items of the embedded one's test split."""
    small: dict[str, int]
    """Overrides that make it small: about 96 items to train on, 7 for validation, few to test."""
    seed: str
    """The key that seeds it; it is 1."""
    own: str
    """The dataset of the user's files."""
    own_data: OwnData
    mode: str = "recognize"
    """The mode of its own, which takes `input`."""
    parameters: str
    """The number of parameters of model=base, a pattern."""
    network: str
    """The class that build_model returns."""
    dropout: str
    width: str
    """The key that makes model=tiny wider than model=dryrun …"""
    widths: tuple[str, str]
    """… from what to what."""
    count: str
    """A key of every model that must be a whole number."""
    flawed: dict[str, tuple[str, str]]
    """Files that the schemas refuse, by what is wrong with them: a group of conf/, and the text."""

    @property
    def smaller(self) -> str:
        """The overrides of `small` as one types them."""
        return " ".join(f"{key}={value}" for key, value in self.small.items())


MODULES = [
    importlib.import_module(f".{it.name}", __name__) for it in pkgutil.iter_modules(__path__)
]
TASKS: dict[str, Task] = {module.TASK.name: module.TASK for module in MODULES}
