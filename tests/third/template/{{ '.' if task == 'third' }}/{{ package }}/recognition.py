"""mode=recognize: the classes of the points in tables."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from .config import Config
from .engine.errors import UserError
from .engine.inference.evaluate import Row
from .engine.inference.recognize import recognize_files
from .points import read_points
from .project import PROJECT


def recognize(cfg: Config, output_dir: Path) -> None:
    """Classify the points of cfg.input; print, write recognized.jsonl."""
    recognize_files(PROJECT, cfg, output_dir, find_tables, partial(recognize_table, cfg=cfg))


def find_tables(folder: Path) -> list[Path]:
    """The tables of a folder."""
    return sorted(folder.glob("*.csv"))


def recognize_table(model: nn.Module, path: Path, source: Path, cfg: Config) -> tuple[Row, str]:
    """The classes of the points of one table, with their probabilities. Raises UserError."""
    points, problems = read_points(path, cells=2)
    if problems or not points:
        raise UserError(*problems.values() or [f"{path}: no points"])
    device = next(model.parameters()).device
    scaled = torch.tensor([point[:2] for point in points], device=device) * cfg.points.scale
    sure, best = model(scaled).float().softmax(dim=1).max(dim=1)
    names = [cfg.data.classes[i] for i in best.tolist()]
    rounded = [round(it, cfg.points.decimals) for it in sure.tolist()]
    return {"path": str(path), "predictions": names, "probabilities": rounded}, " ".join(names)
