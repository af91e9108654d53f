"""The interface between the engine and a project; <package>/project.py implements it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from .config import Config, Split

if TYPE_CHECKING:  # torch takes a second to import
    from torch import Tensor, nn

T_co = TypeVar("T_co", covariant=True)

Goal = Literal["minimize", "maximize"]
Batch = dict[str, "Tensor"]


class Items(Protocol[T_co]):
    """The interface of a dataset."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> T_co: ...
    def length(self, index: int, /) -> float:
        """The item's length in any unit: shorter items are padded to the longest of their batch."""

    def name(self, index: int) -> str:
        """The item's name in messages."""

    def files(self) -> Sequence[str | Path]:
        """All files that the items are read from, in their order; none if they are generated."""


@dataclass(frozen=True)
class Mode:
    """One value of `mode`: the function that train.py calls, and what it needs."""

    run: Callable[[Any, Path], float | None]
    """Called with the config and the output directory; returns the objective for a sweep."""
    help: str
    """Its line on the page of --help."""
    needs: tuple[str, ...] = ()
    """Keys of the config that must have a value: checkpoint, input."""
    splits: tuple[str, ...] = ()
    """The splits that it reads; held_out stands for data.held_out."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """One project. Functions that need torch import it themselves."""

    root: Path
    """The folder of train.py and conf/."""
    config: type[Config]
    modes: Mapping[str, Mode]
    metrics: Mapping[str, Goal]
    """The metrics of an evaluation, and which way each is better."""
    build_model: "Callable[[Any], nn.Module]"
    open_items: "Callable[[Any, Split], Items[Any]]"
    collate: "Callable[[list[Any], Any], Batch]"
    check_data: Callable[[Any, list[Split]], Iterable[str]] = lambda *_: []
    """Problems of these splits."""
    check_input: Callable[[Any], Iterable[str]] = lambda *_: []
    """Problems of the paths in `input`, and of what else the mode reads beside the data."""
    data_notes: Callable[[Any, list[Split]], Iterable[str]] = lambda *_: []
    """Notes on the data for the user, a line each."""
    resume_safe: Callable[[Any], Iterable[str]] = lambda *_: []
    """Keys that a resumed run may change with this config, beside those marked ResumeSafe."""
    chance_loss: Callable[[Any], float | None] = lambda _: None
    """The loss of guessing, if known: that of a model that has learned nothing."""
    packages: Sequence[str] = ()
    """Packages that items are read with; a resumed run compares their versions."""

    @property
    def conf(self) -> Path:
        """The folder of the config files."""
        return self.root / "conf"

    def goal(self, metric: str) -> Goal:
        """Which way a metric is better; one that the project no longer has is minimized."""
        return self.metrics.get(metric, "minimize")

    def needs(self, mode: str) -> tuple[str, ...]:
        """The keys that a mode needs."""
        return self.modes[mode].needs if mode in self.modes else ()

    def command(self, mode: str, checkpoint: str = "checkpoint=runs/NAME") -> str:
        """The command line of a mode, with placeholders for what it needs."""
        values = {"checkpoint": checkpoint, "input": "input=FILE_OR_FOLDER"}
        needed = (values.get(key, f"{key}=…") for key in self.needs(mode))
        return " ".join([f"python train.py mode={mode}", *needed])

    def splits(self, cfg: Config) -> list[Split]:
        """The splits that the config's mode reads, each once."""
        known = {name: mode.splits for name, mode in self.modes.items()}
        named = known.get(cfg.mode, ("train", "valid", "held_out") if cfg.mode == "check" else ())
        held_out = cfg.data.held_out
        splits: list[Any] = [held_out if split == "held_out" else split for split in named]
        return list(dict.fromkeys(splits))
