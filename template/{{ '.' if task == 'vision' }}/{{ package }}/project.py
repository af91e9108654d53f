"""This project's config, modes, model, data and metrics, for the engine.

Functions import what they need themselves: config errors are reported before torch or NumPy loads.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .engine.config import Split
from .engine.project import Batch, Items, Mode, Project

if TYPE_CHECKING:
    from torch import nn

    from .data import Item


def train(cfg: Config, output_dir: Path) -> float:
    """mode=train."""
    from .engine.train.start import start
    from .training import train

    return start(train, PROJECT, cfg, output_dir)


def evaluate(cfg: Config, output_dir: Path) -> float:
    """mode=evaluate."""
    from .evaluation import evaluate

    return evaluate(cfg, output_dir)


def recognize(cfg: Config, output_dir: Path) -> None:
    """mode=recognize."""
    from .recognition import recognize

    recognize(cfg, output_dir)


def describe(cfg: Config, output_dir: Path) -> None:
    """mode=describe."""
    from .checks import find_classes
    from .own_files import describe

    describe(cfg.data, "classes", find_classes(cfg))


def build_model(cfg: Config) -> "nn.Module":
    """The network, with new weights."""
    from .model import build_model

    return build_model(cfg)


def open_items(cfg: Config, split: Split) -> "Items[Item]":
    """The items of a split."""
    from .data import open_items

    return open_items(cfg, split)


def collate(items: "list[Item]", cfg: Config) -> Batch:
    """A batch of items."""
    from .data import collate

    return collate(items, cfg)


def check_data(cfg: Config, splits: list[Split]) -> Iterable[str]:
    """Problems of these splits."""
    from .checks import check_data

    return check_data(cfg, splits)


def check_input(cfg: Config) -> Iterable[str]:
    """Problems of the files and folders in `input`."""
    from .checks import check_input

    return check_input(cfg)


def data_notes(cfg: Config, splits: list[Split]) -> Iterable[str]:
    """Notes on the data for the user."""
    from .checks import data_notes

    return data_notes(cfg, splits)


def chance_loss(cfg: Config) -> float:
    """The loss of guessing all classes alike."""
    return math.log(len(cfg.data.classes))


def resume_safe(cfg: Config) -> set[str]:
    """Keys that a resumed run may change: with a constant learning rate, iter_num."""
    constant = cfg.training.optim.scheduler.kind == "constant"
    return {"training.run.iter_num"} if constant else set()


PROJECT = Project(
    root=Path(__file__).parents[1],
    config=Config,
    modes={
        "train": Mode(train, "train; results go to runs/NAME", splits=("train", "valid")),
        "evaluate": Mode(
            evaluate, "measure its best checkpoint", needs=("checkpoint",), splits=("held_out",)
        ),
        "recognize": Mode(recognize, "classify pictures", needs=("checkpoint", "input")),
        "describe": Mode(describe, "write the data's classes to conf/data/NAME.yaml"),
    },
    metrics={"loss": "minimize", "accuracy": "maximize", "balanced_accuracy": "maximize"},
    build_model=build_model,
    open_items=open_items,
    collate=collate,
    check_data=check_data,
    check_input=check_input,
    data_notes=data_notes,
    chance_loss=chance_loss,
    resume_safe=resume_safe,
    packages=("numpy", "pillow"),
)
