"""Points (x, y, class): two spirals, and tables with a line X,Y,CLASS for each."""

import math
from pathlib import Path

import numpy as np

from .config.data import Spirals, Table
from .engine.config import Split

Point = tuple[float, float, str]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def make_spirals(data: Spirals, split: Split) -> list[Point]:
    """The points of a split, the spirals in turn."""
    rng, points = np.random.default_rng([data.seed, SPLITS.index(split)]), []
    for i in range(getattr(data.items, split)):
        radius = math.sqrt(rng.uniform(0.01, 1))
        angle = math.pi * (3 * radius + i % 2)
        x, y = rng.normal([radius * math.cos(angle), radius * math.sin(angle)], data.noise)
        points.append((float(x), float(y), data.classes[i % 2]))
    return points


def read_points(path: Path, cells: int = 3) -> tuple[list[Point], dict[int, str]]:
    """The points of a table, which may lack the class; what is wrong, by line."""
    points, problems = [], {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            x, y, *rest = line.split(",")
            points.append((float(x), float(y), rest[0] if cells == 3 else ""))
        except (ValueError, IndexError):
            problems[number] = f"{path}:{number}: expected {'X,Y,CLASS'[: 2 * cells + 3]}"
    return points, problems


def read_split(data: Table, split: Split) -> list[Point]:
    """The points of a split of the user's table."""
    points, _ = read_points(data.path(split))
    return data.select(split, points, [f"{x},{y}" for x, y, _ in points])
