"""This project's config, modes, model, data and metrics, for the engine."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from .config import Config
from .engine.project import Mode, Project


def call(module: str, function: str, *arguments: Any) -> Any:
    """Call a function of a module that is imported now: config errors come before torch loads."""
    return getattr(import_module(f".{module}", __package__), function)(*arguments)


def train(cfg: Config, output_dir: Path) -> float:
    """mode=train."""
    from .engine.train.start import start
    from .training import train

    return start(train, PROJECT, cfg, output_dir)


def describe(cfg: Config, output_dir: Path) -> None:
    """mode=describe."""
    from .checks import find_columns
    from .own_files import describe

    features, classes = find_columns(cfg)
    describe(cfg.data, "features", features, classes=classes)


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
            partial(call, "evaluation", "evaluate"),
            "measure its best checkpoint",
            needs=("checkpoint",),
            splits=("held_out",),
        ),
        "recognize": Mode(
            partial(call, "recognition", "recognize"),
            "add its answers to tables",
            needs=("checkpoint", "input"),
        ),
        "describe": Mode(describe, "write the data's columns to conf/data/NAME.yaml"),
    },
    metrics={"loss": "minimize", "error": "minimize"},
    build_model=partial(call, "model", "build_model"),
    open_items=partial(call, "data", "open_items"),
    collate=partial(call, "data", "collate"),
    check_data=partial(call, "checks", "check_data"),
    check_input=partial(call, "checks", "check_input"),
    resume_safe=resume_safe,
    packages=("numpy",),
)
