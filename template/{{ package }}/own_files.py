"""Splits and folds, and mode=describe for your own files. No torch here: checks use it too."""

import hashlib
import logging
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Self, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from .engine.config import Dataset, Split
from .engine.errors import UserError
from .engine.types import Section, Text, conflict

T = TypeVar("T")
OPTIONS = Path(__file__).parents[1] / "conf" / "data"
log = logging.getLogger(__name__)


def or_fraction(text: str) -> BeforeValidator:
    """Accepts a non-empty text, which messages call `text`, or a fraction to hold out of train."""

    def check(value: object) -> object:
        is_text = isinstance(value, str) and value
        if not is_text and not (isinstance(value, float) and 0 < value < 0.5):
            raise ValueError(f"{text}, or a fraction of train above 0 and below 0.5")
        return value

    return BeforeValidator(check)


PathOrFraction = Annotated[str | float, or_fraction("a path")]


class Folded(Dataset):
    """A dataset with folds for cross-validation."""

    seed: NonNegativeInt
    """Seeds the choice of held-out items."""
    folds: Annotated[int, Field(ge=2)] | None
    """Equal parts of the training and validation items; None: the splits as they are."""
    fold: NonNegativeInt
    """The part that is the validation split; the others are the training split."""

    @model_validator(mode="after")
    def _check_fold(self) -> Self:
        if self.folds and self.fold >= self.folds:
            raise conflict("fold", f"0 to {self.folds - 1}, since data.folds is {self.folds}")
        if self.fold and not self.folds:
            raise conflict("fold", "0 where data.folds is null; data.folds=5 divides the data")
        return self

    def valid_places(self, count: int, size: int) -> tuple[int, int]:
        """Begin and end of the validation items among `count`; without folds the first `size`."""
        if not self.folds:
            return 0, size
        return count * self.fold // self.folds, count * (self.fold + 1) // self.folds


class Counts(Section):
    """How many items each split has."""

    train: PositiveInt
    valid: PositiveInt
    test: PositiveInt


class Counted(Folded):
    """A dataset whose splits have given numbers of items."""

    items: Counts

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        count = self.items.train + self.items.valid
        if self.folds and self.folds > count:
            raise conflict("folds", f"at most {count}, the sum of data.items.train and valid")
        return self

    def count(self, split: Split) -> int:
        """The number of items of a split."""
        if split == "test" or not self.folds:
            return int(getattr(self.items, split))
        count = self.items.train + self.items.valid
        start, end = self.valid_places(count, 0)
        return end - start if split == "valid" else count - (end - start)

    def place(self, split: Split, index: int) -> tuple[Split, int]:
        """The split and the index that an item has without folds."""
        if split == "test" or not self.folds:
            return split, index
        train = self.items.train
        start, end = self.valid_places(train + self.items.valid, 0)
        number = index + (start if split == "valid" else (end - start) * (index >= start))
        return ("train", number) if number < train else ("valid", number - train)


class OwnFiles(Folded):
    """A dataset in files of your own."""

    train: Text
    valid: PathOrFraction
    """Its path, or the fraction of `train` that is held out for it."""
    test: PathOrFraction

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        if self.folds and isinstance(self.valid, str):
            raise conflict("folds", "null where data.valid is no fraction such as 0.1")
        return self

    def key(self, split: Split) -> Split:
        """The key of the path that a split is read from: its own, or `train`."""
        return split if isinstance(getattr(self, split), str) else "train"

    def path(self, split: Split) -> Path:
        """The path that a split is read from."""
        return Path(getattr(self, self.key(split)))

    def count_splits(self, key: Split) -> int:
        """The number of splits that read the path of this key."""
        held_out = sum(isinstance(part, float) for part in (self.valid, self.test))
        return 1 + held_out if key == "train" else 1

    def select(self, split: Split, items: list[T], names: list[str]) -> list[T]:
        """The items of `split` among those at its path.

        The choice depends on the seed and the names alone, not on their order; a new name moves
        few others. Items that share a name stay together. Each part has at least one.
        """
        seed, fractions = self.seed, {"test": self.test, "valid": self.valid}
        held_out = {name: part for name, part in fractions.items() if isinstance(part, float)}
        if not held_out or self.key(split) != "train":
            return items
        drawn = {name: hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names}
        order, parts = sorted(drawn, key=drawn.__getitem__), {}
        for held, fraction in held_out.items():
            start, end = 0, max(1, int(fraction * len(drawn)))
            if held == "valid":
                start, end = self.valid_places(len(order), end)
            parts[held], order = order[start:end], order[:start] + order[end:]
        mine = set(parts.get(split, order))
        return [item for item, name in zip(items, names, strict=True) if name in mine]


def fold_problems(data: Folded, test: str | float, counts: dict[str, int]) -> list[str]:
    """A problem if one of these sets, each with its number of items, is too small for the folds."""
    name = min(counts, key=counts.__getitem__)
    most = counts[name] - (max(1, int(test * counts[name])) if isinstance(test, float) else 0)
    if not data.folds or data.folds <= most:
        return []
    expected = f"expected at most {most}, since {name} has {counts[name]} items"
    return [f"data.folds = {data.folds}: {expected}\n{command(f'data.folds={most}')}"]


def command(*overrides: str) -> str:
    """The user's command line with these overrides, for messages."""
    # engine.run_dir.paths.COMMAND; it is not set where Python code reads the data
    given = shlex.split(os.environ.get("RUN_COMMAND", "python train.py"))
    keys = tuple(override.partition("=")[0] + "=" for override in overrides)
    return shlex.join([*(part for part in given if not part.startswith(keys)), *overrides])


def find_option(data: Dataset, key: str) -> Path:
    """The file of conf/data that mode=describe writes `key` to.

    If the chosen one is the template's file, which is named after its kind, this is a new file,
    named after the path of `train`, or the dataset. Raises UserError if that exists.
    """
    name = str(HydraConfig.get().runtime.choices["data"])
    if name != data.kind:
        return OPTIONS / f"{name}.yaml"
    values = data.model_dump()
    source = values.get("dataset", values["train"])  # a name on the hub, or a path
    new = re.sub(r"\W+", "_", Path(source).resolve().stem)
    file = OPTIONS / f"{new}.yaml"
    if file.exists():
        again = command("mode=describe", f"data={new}")
        renew = f"if it is of this data, renew its {key}:\n{again}\nelse rename that file"
        raise UserError(f"{os.path.relpath(file)} exists; {renew}")
    return file


def describe(
    data: Dataset, key: str, found: list[str] | str | dict[str, object], **others: list[str]
) -> None:
    """mode=describe: write `found` to a key of the file of `find_option`, `others` to theirs.

    {} stands for the choice of the template's file, and is not written.
    """
    file, described = find_option(data, key), {key: found, **others}
    if not file.exists():
        shipped = dict(OmegaConf.load(OPTIONS / f"{data.kind}.yaml"))
        values = data.model_dump() | described
        changed = {k: v for k, v in values.items() if v != {} and v != shipped.get(k)}
        text = OmegaConf.to_yaml({"defaults": [data.kind], **changed})
        text = f"# Written by mode=describe; yours to edit.\n{text}"
    else:
        # the lines of each key, or else the end; the rest of the file stays as it is
        text = file.read_text("utf-8").rstrip() + "\n"
        for one, value in described.items():
            lines = OmegaConf.to_yaml({one: value}) if value != {} else ""
            place = re.compile(rf"^{one}:.*?(?=^[^\s-]|\Z)|\Z", re.MULTILINE | re.DOTALL)
            before, after = place.split(text, maxsplit=1)
            text = f"{before}{lines}{after}"
    file.write_text(text, "utf-8")
    what = found.get("kind", "default") if isinstance(found, dict) else f"{len(found)} entries"
    log.info("wrote %s: data.%s: %s", os.path.relpath(file), key, what)
    log.info("check all of it: python train.py mode=check data=%s", file.stem)
    log.info("python train.py data=%s", file.stem)
