"""Your own files: their splits, and mode=describe. No torch here: checks before a run use it."""

import hashlib
import logging
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from pydantic import BeforeValidator, NonNegativeInt

from .engine.config import Dataset, Split
from .engine.errors import UserError
from .engine.types import Text

T = TypeVar("T")
OPTIONS = Path(__file__).parents[1] / "conf" / "data"
log = logging.getLogger(__name__)


def or_fraction(text: str) -> BeforeValidator:
    """Accepts a text, which the message calls so, or the fraction of train that is held out."""

    def check(value: object) -> object:
        is_text = isinstance(value, str) and value
        if not is_text and not (isinstance(value, float) and 0 < value < 0.5):
            raise ValueError(f"{text}, or a fraction of train above 0 and below 0.5")
        return value

    return BeforeValidator(check)


PathOrFraction = Annotated[str | float, or_fraction("a path")]


class OwnFiles(Dataset):
    """A dataset in files of your own."""

    train: Text
    valid: PathOrFraction
    """Its path, or the fraction of `train` that is held out for it."""
    test: PathOrFraction
    seed: NonNegativeInt
    """Seeds the choice of held-out items."""

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
        few others. Items that share a name stay together. Each fraction holds out at least one.
        """
        seed, fractions = self.seed, {"test": self.test, "valid": self.valid}
        held_out = {name: part for name, part in fractions.items() if isinstance(part, float)}
        if not held_out or self.key(split) != "train":
            return items
        drawn = {name: hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names}
        order, parts = sorted(drawn, key=drawn.__getitem__), {}
        for held, fraction in held_out.items():
            size = max(1, int(fraction * len(drawn)))
            parts[held], order = order[:size], order[size:]
        mine = set(parts.get(split, order))
        return [item for item, name in zip(items, names, strict=True) if name in mine]


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
    log.info("python train.py data=%s", file.stem)
