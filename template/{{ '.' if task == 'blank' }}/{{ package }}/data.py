"""Datasets and batches."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .config import Config
from .config.data import Spirals, Table
from .engine.config import Split
from .engine.project import Batch
from .tables import read_rows

Item = tuple[NDArray[np.float32], float]


@dataclass
class RowItems:
    """Rows: (features, answer), where the answer is a number, or that of a class."""

    features: NDArray[np.float32]
    answers: list[float]
    names: list[str]
    paths: list[Path]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> Item:
        return self.features[index], self.answers[index]

    def length(self, index: int) -> float:
        """The same for all: nothing is padded."""
        return 1.0

    def name(self, index: int) -> str:
        """What messages call the row."""
        return self.names[index]

    def files(self) -> list[Path]:
        """The table, if there is one."""
        return self.paths


def open_items(cfg: Config, split: Split) -> RowItems:
    """The rows of a split."""
    if isinstance(cfg.data, Spirals):
        return make_spirals(cfg.data, split)
    changed = cfg.data.path(split).stat().st_mtime_ns
    return read_split(cfg.data, split, changed)


def make_spirals(data: Spirals, split: Split) -> RowItems:
    """The points of a split, of the two spirals in turn."""
    places = [data.place(split, i) for i in range(data.count(split))]
    points = {drawn: draw_points(data, drawn) for drawn in {drawn for drawn, _ in places}}
    features = np.array([points[drawn][i] for drawn, i in places])
    names = [f"{drawn} {i}" for drawn, i in places]
    return RowItems(features, [i % 2 for _, i in places], names, [])


def draw_points(data: Spirals, split: Split) -> NDArray[np.float32]:
    """The points that a split has without folds, [items, 2]."""
    count = getattr(data.items, split)
    rng = np.random.default_rng([data.seed, get_args(Split).index(split)])
    radius = np.sqrt(rng.uniform(0.01, 1, count))
    angle = math.pi * (2 * data.turns * radius + np.arange(count) % 2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    points += rng.normal(0, data.noise, points.shape)
    return points.astype(np.float32)


@lru_cache(maxsize=3)  # a run opens each split several times
def read_split(data: Table, split: Split, changed: int) -> RowItems:
    """The rows of a split of the user's table; of each class the same fraction is held out."""
    path, classes = data.path(split), dict[float, list[tuple[int, str]]]()
    features, answers, names = list[list[float]](), list[float](), list[str]()
    for row in read_rows(path, data, needs_answer=True):
        if not row.problem:
            classes.setdefault(row.answer if data.classes else 0, []).append((len(names), row.text))
            features.append(row.features)
            answers.append(row.answer)
            names.append(f"{path}:{row.line}")
    parts = (data.select(split, rows, [text for _, text in rows]) for rows in classes.values())
    mine = sorted(i for part in parts for i, _ in part)
    shape = len(mine), len(data.features)
    numbers = np.array([features[i] for i in mine], np.float32).reshape(shape)
    return RowItems(numbers, [answers[i] for i in mine], [names[i] for i in mine], [path])


def collate(items: list[Item], cfg: Config) -> Batch:
    """Features [items, columns], and answers [items]: numbers, or those of the classes."""
    features, answers = zip(*items, strict=True)
    kind = torch.int64 if cfg.data.classes else torch.float32
    return {
        "features": torch.from_numpy(np.stack(features)),
        "answers": torch.tensor(answers, dtype=kind),
    }
