"""A project that fine-tunes a sentence encoder."""

from pathlib import Path

from .config import Config
from .engine.project import Mode, Project
from .evaluation import evaluate


def train(cfg, output_dir):
    from .engine.train.start import start
    from .training import train

    return start(train, PROJECT, cfg, output_dir)


def build_model(cfg):
    from .model import build_model

    return build_model(cfg)


def open_items(cfg, split):
    from .data import open_items

    return open_items(cfg, split)


def collate(items, cfg):
    from .data import collate

    return collate(items, cfg)


PROJECT = Project(
    root=Path(__file__).parents[1],
    config=Config,
    modes={
        "train": Mode(train, "train", splits=("train", "valid")),
        "evaluate": Mode(evaluate, "evaluate", ("checkpoint",), ("held_out",)),
    },
    metrics={"loss": "minimize", "accuracy": "maximize"},
    build_model=build_model,
    open_items=open_items,
    collate=collate,
)
