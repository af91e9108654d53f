"""This project's config, modes, model, data and metrics, for the engine."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .config import Config
from .engine.project import Mode, Project


def late(module: str, name: str) -> Callable[..., Any]:
    """A function that is imported when it is called: its module may need torch."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f".{module}", __package__), name)(*arguments)

    return call


def train(cfg: Config, output_dir: Path) -> float:
    """mode=train."""
    from .engine.train.start import start
    from .training import train

    return start(train, PROJECT, cfg, output_dir)


def describe(cfg: Config, output_dir: Path) -> None:
    """mode=describe."""
    from .checks import find_classes
    from .own_files import describe

    describe(cfg.data, "classes", find_classes(cfg))


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
            late("evaluation", "evaluate"),
            "measure its best checkpoint",
            needs=("checkpoint",),
            splits=("held_out",),
        ),
        "recognize": Mode(
            late("recognition", "recognize"), "classify points", needs=("checkpoint", "input")
        ),
        "describe": Mode(describe, "write the data's classes to conf/data/NAME.yaml"),
    },
    metrics={"loss": "minimize", "accuracy": "maximize"},
    build_model=late("model", "build_model"),
    open_items=late("data", "open_items"),
    collate=late("data", "collate"),
    check_data=late("checks", "check_data"),
    check_input=late("checks", "check_input"),
    resume_safe=resume_safe,
    packages=("numpy",),
)
