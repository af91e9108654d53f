"""mode=recognize: classify pictures."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .config import Config
from .data import prepare_to_recognize
from .engine import find_part
from .engine.errors import UserError
from .engine.inference import Row, recognize_files
from .pictures import Unreadable, oddity, picture_files, read_picture
from .project import PROJECT

log = logging.getLogger(__name__)


def recognize(cfg: Config, output_dir: Path) -> None:
    """Classify the files and folders of cfg.input; print, write recognized.jsonl and .png."""
    recognize_file = partial(recognize_picture, cfg=cfg)
    rows = recognize_files(PROJECT, cfg, output_dir, picture_files, recognize_file)
    title = f"{len(rows)} pictures"
    if outcomes := [is_right(row) for row in rows if "label" in row]:
        counts = outcomes.count(True), len(outcomes)
        title = "{} of {} right".format(*counts)
        log.info("right: %d of %d whose folder names their class", *counts)
    if sheet := find_part("report.sheet"):
        look = cfg.sheet
        # wrong ones, then the least sure ones
        rows.sort(key=lambda row: (is_right(row) is not False, row["probability"]))
        if len(rows) > look.pictures:
            title += f"; {look.pictures} of {len(rows)} shown, wrong and least sure ones first"
        cells = []
        for row in rows[: look.pictures]:
            picture = read_picture(Path(row["path"]))
            picture.thumbnail((look.pixels, look.pixels))
            prediction, label = sheet.elide(row["prediction"]), sheet.elide(row.get("label", ""))
            sure = f"{100 * row['probability']:.0f} % sure"
            is_wrong = is_right(row) is False
            text = f"{sure}:\n{prediction}, is {label}" if is_wrong else f"{prediction}\n{sure}"
            cells.append((np.asarray(picture), text, is_right(row)))
        size = {"width": look.pixels, "height": look.pixels}
        sheet.draw_sheet(output_dir / "recognized.png", title, cells, look.columns, **size)


def recognize_picture(model: nn.Module, path: Path, source: Path, cfg: Config) -> tuple[Row, str]:
    """The class of one picture. Raises UserError if it is unreadable."""
    classes = cfg.data.classes
    try:
        pixels = torch.from_numpy(prepare_to_recognize(read_picture(path), cfg))[None]
    except Unreadable as problem:
        raise UserError(f"{path}: {problem}") from None
    if note := oddity(path):
        log.warning("note: %s", note)
    device = next(model.parameters()).device
    probabilities = model(pixels.to(device))[0].float().softmax(dim=0)
    best = int(probabilities.argmax())
    probability = round(float(probabilities[best]), 4)
    row: Row = {"path": str(path), "prediction": classes[best], "probability": probability}
    if label := label_of(path, source, classes):
        row["label"] = label
    mark = f"  wrong: {label}" if is_right(row) is False else ""
    return row, f"{classes[best]}  {100 * probability:.1f} %{mark}"


def is_right(row: Row) -> bool | None:
    """Whether the prediction is right; None without a label."""
    return row["prediction"] == row["label"] if "label" in row else None


def label_of(path: Path, source: Path, classes: list[str]) -> str | None:
    """The class named by a picture's folder: the first folder below the source, as in training.

    Else the folder that it is in, or the source itself; None if none is a class.
    """
    below = path.relative_to(source).parts[:-1]
    folders = (*below[:1], path.absolute().parent.name, source.absolute().name)
    return next((name for name in folders if name in classes), None)
