"""mode=recognize: classify pictures."""

import logging
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from .config import Config
from .data import prepare_to_recognize
from .engine.errors import UserError
from .engine.inference.evaluate import Row
from .engine.inference.recognize import recognize_files
from .pictures import Unreadable, oddity, picture_files, read_picture
from .project import PROJECT
from .sheet import Cell, draw_sheet, most_doubtful

log = logging.getLogger(__name__)


def recognize(cfg: Config, output_dir: Path) -> None:
    """Classify the files and folders of cfg.input; print, write recognized.jsonl and .png."""
    cells: list[Cell] = []
    outcomes: list[bool] = []  # of pictures whose label is known
    recognize_file = partial(recognize_picture, cfg=cfg, cells=cells, outcomes=outcomes)
    recognize_files(PROJECT, cfg, output_dir, picture_files, recognize_file)
    if outcomes:
        log.info("right: %d of %d whose folder names their class", sum(outcomes), len(outcomes))
    draw_sheet(cells, cfg.data.sheet, output_dir / "recognized.png")


def recognize_picture(
    model: nn.Module,
    path: Path,
    source: Path,
    cfg: Config,
    cells: list[Cell],
    outcomes: list[bool],
) -> tuple[Row, str]:
    """The class of one picture; adds it to the contact sheet. Raises UserError if unreadable."""
    classes, sheet = cfg.data.classes, cfg.data.sheet
    try:
        picture = read_picture(path)
        pixels = torch.from_numpy(prepare_to_recognize(picture, cfg))[None]
    except Unreadable as problem:
        raise UserError(f"{path}: {problem}") from None
    if note := oddity(path):
        log.warning("note: %s", note)
    device = next(model.parameters()).device
    probabilities = model(pixels.to(device))[0].float().softmax(dim=0)
    best = int(probabilities.argmax())
    probability = round(float(probabilities[best]), 4)
    row: Row = {"path": str(path), "prediction": classes[best], "probability": probability}
    label = label_of(path, source, classes)
    right = classes[best] == label if label else None
    if label:
        row["label"] = label
    mark = {None: "", True: "", False: f"  wrong: {label}"}[right]
    picture.thumbnail((sheet.pixels, sheet.pixels), Image.Resampling.BILINEAR)
    cells.append(Cell(picture, classes[best], probability, label, right))
    if len(cells) > 2 * sheet.pictures:  # a large folder must not fill the memory
        cells[:] = most_doubtful(cells, sheet.pictures)
    outcomes += [] if right is None else [right]
    return row, f"{classes[best]}  {100 * probability:.1f} %{mark}"


def label_of(path: Path, source: Path, classes: list[str]) -> str | None:
    """The class named by a picture's folder: the first folder below the source, as in training.

    Else the folder that it is in, or the source itself; None if none is a class.
    """
    below = path.relative_to(source).parts[:-1]
    folders = (*below[:1], path.absolute().parent.name, source.absolute().name)
    return next((name for name in folders if name in classes), None)
