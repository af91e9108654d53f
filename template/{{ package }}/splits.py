"""Splits of your own files: each has a path, or is a fraction of those at the path of `train`."""

import hashlib
import os
import shlex
from pathlib import Path
from typing import TypeVar

from .config.splits import OwnFiles
from .engine.config import Split

T = TypeVar("T")


def split_key(data: OwnFiles, split: Split) -> Split:
    """The key that names the files of a split: its own, or `train`."""
    return split if isinstance(getattr(data, split), str) else "train"


def split_path(data: OwnFiles, split: Split) -> Path:
    """The path that the items of a split are read from."""
    return Path(getattr(data, split_key(data, split)))


def split_keys(data: OwnFiles, splits: list[Split]) -> dict[Split, int]:
    """The keys that name the files of splits, each with the number of splits that share them."""
    of_train = 1 + sum(isinstance(part, float) for part in (data.valid, data.test))
    keys = [split_key(data, split) for split in splits]
    return {key: of_train if key == "train" else 1 for key in keys}


def select(data: OwnFiles, split: Split, items: list[T], names: list[str]) -> list[T]:
    """Those of the items at the split's path that belong to the split.

    A pure function of the seed and the names: order and folder do not matter, and a new name moves
    few others. Items of one name stay together. Each fraction gets one name or more.
    """
    seed, fractions = data.seed, {"test": data.test, "valid": data.valid}
    held_out = {name: part for name, part in fractions.items() if isinstance(part, float)}
    if not held_out or split_key(data, split) != "train":
        return items
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    count, parts = len(order), {}
    for name, fraction in held_out.items():
        size = max(1, int(fraction * count))
        parts[name], order = order[:size], order[size:]
    mine = set(parts.get(split, order))
    return [item for item, name in zip(items, names, strict=True) if name in mine]


def command(*overrides: str) -> str:
    """The user's command line with these overrides, for messages."""
    given = shlex.split(os.environ.get("RUN_COMMAND", "python train.py"))
    keys = tuple(override.partition("=")[0] + "=" for override in overrides)
    return shlex.join([*(part for part in given if not part.startswith(keys)), *overrides])
