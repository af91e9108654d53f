"""mode=recognize: tables with predictions."""

import csv
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .checks import table_problems
from .config import Config
from .engine import find_part
from .engine.errors import UserError
from .engine.inference import Row, recognize_files
from .evaluation import measure_error, name_answer, predict
from .project import PROJECT
from .tables import find_tables, read_rows

Points = NDArray[np.float32]

SHOWN = 5  # predictions on the terminal
AT_ONCE = 65536  # rows, so that a large table needs little memory


def recognize(cfg: Config, output_dir: Path) -> None:
    """Write the tables of cfg.input with their predictions, recognized.jsonl and .png."""
    drawn: list[tuple[nn.Module, Points, list[Row]]] = []
    recognize_file = partial(recognize_table, cfg=cfg, folder=output_dir, drawn=drawn)
    recognize_files(PROJECT, cfg, output_dir, find_tables, recognize_file)
    if (plane := find_part("report.plane")) and len(cfg.data.features) == 2:
        points = np.concatenate([features for _, features, _ in drawn])
        rows = [row for *_, found in drawn for row in found]
        ask = partial(predict_rows, drawn[0][0], cfg)
        file = output_dir / "recognized.png"
        plane.draw_plane(file, cfg.data.features, cfg.data.classes, points, rows, ask)


@torch.inference_mode()
def predict_rows(model: nn.Module, cfg: Config, features: Points) -> list[Row]:
    """The predictions for features [rows, columns]."""
    rows = torch.from_numpy(features).to(next(model.parameters()).device)
    return predict(torch.cat([model(part)[0] for part in torch.split(rows, AT_ONCE)]), cfg.data)


def recognize_table(
    model: nn.Module,
    path: Path,
    source: Path,
    cfg: Config,
    folder: Path,
    drawn: list[tuple[nn.Module, Points, list[Row]]],
) -> tuple[Row, str]:
    """Write one table with its predictions. Raises UserError if it is damaged."""
    if problems := table_problems(path, cfg):
        raise UserError(*problems)
    rows = list(read_rows(path, cfg.data, needs_answer=False))
    features = np.array([row.features for row in rows], np.float32)
    found = predict_rows(model, cfg, features)
    table = folder / path.name
    while table.exists():  # of another folder
        table = table.with_stem(f"{table.stem}_")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys([*rows[0].cells, *found[0]]))
        writer.writeheader()
        writer.writerows(row.cells | it for row, it in zip(rows, found, strict=True))
    drawn.append((model, features, found))
    shown = [it["prediction"] for it in found[:SHOWN]]
    text = ", ".join(it if isinstance(it, str) else f"{it:.4g}" for it in shown)
    text += f", … {len(rows)} rows" if len(rows) > SHOWN else ""
    result: Row = {"path": str(path), "table": str(table), "rows": len(rows)}
    for row, it in zip(rows, found, strict=True):
        if not math.isnan(row.answer):
            it["label"] = name_answer(row.answer, cfg.data)
    if errors := [measure_error(it["prediction"], it["label"]) for it in found if "label" in it]:
        result["error"] = sum(errors) / len(errors)
        text += f"  error {result['error']:.4g}"
    return result, text
