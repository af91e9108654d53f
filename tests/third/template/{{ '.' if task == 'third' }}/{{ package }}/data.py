"""Datasets and batches."""

from pathlib import Path

import torch

from .config import Config
from .config.data import Spirals
from .engine.config import Split
from .engine.project import Batch, Items
from .points import Point, make_spirals, read_split

Item = tuple[float, float, int]


class PointItems:
    """The points of a split: (x, y, number of the class)."""

    def __init__(self, points: list[Point], classes: list[str], split: Split, file: Path | None):
        self.points, self.classes, self.split, self.file = points, classes, split, file

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Item:
        x, y, name = self.points[index]
        return x, y, self.classes.index(name)

    def length(self, index: int) -> float:
        """The same for all."""
        return 1.0

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return f"{self.split} {index}"

    def files(self) -> list[Path]:
        """The table, if there is one."""
        return [self.file] if self.file else []


def open_items(cfg: Config, split: Split) -> Items[Item]:
    """A sequence of (x, y, number of the class)."""
    data = cfg.data
    if isinstance(data, Spirals):
        return PointItems(make_spirals(data, split), data.classes, split, None)
    return PointItems(read_split(data, split), data.classes, split, data.path(split))


def collate(items: list[Item], cfg: Config) -> Batch:
    """Points [items, 2], scaled, and the numbers of their classes [items]."""
    points = torch.tensor([item[:2] for item in items]) * cfg.points.scale
    return {"points": points, "classes": torch.tensor([item[2] for item in items])}
