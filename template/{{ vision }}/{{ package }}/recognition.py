"""mode=recognize: tell the class of pictures."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .config import Config
from .data import prepare_to_recognize
from .engine.checkpoints import load_model
from .engine.devices import autocast, set_up_device
from .engine.errors import UserError
from .model import build_model
from .pictures import Unreadable, oddity, picture_files, read_picture
from .sheet import Cell, draw_sheet, most_doubtful

log = logging.getLogger(__name__)


@torch.inference_mode()
def recognize(cfg: Config, checkpoint: Path, output_dir: Path) -> None:
    """Print what the files and folders of cfg.input show; write recognized.jsonl and .png."""
    device = set_up_device(cfg.training.run)
    model = load_model(build_model(cfg), checkpoint).to(device).eval()
    classes, sheet = cfg.data.classes, cfg.data.sheet

    sources = map(Path, cfg.input or [])
    files = [
        (Path(file), source)
        for source in sources
        for file in (picture_files(source) if source.is_dir() else [source])
    ]
    width = max(len(str(path)) for path, _ in files)
    output = output_dir / "recognized.jsonl"
    cells: list[Cell] = []
    outcomes: list[bool] = []  # of pictures whose label is known
    with output.open("w", encoding="utf-8") as lines:
        for path, source in files:
            # the check before the run has refused a folder with nothing to read in it
            try:
                picture = read_picture(path)
                pixels = torch.from_numpy(prepare_to_recognize(picture, cfg))[None].to(device)
            except Unreadable as problem:
                log.warning("skipped: %s: %s", path, problem)
                continue
            if note := oddity(path):
                log.warning("note: %s", note)
            with autocast(device, cfg.training.run.precision):
                probabilities = model(pixels)[0].float().softmax(dim=0)
            best = int(probabilities.argmax())
            probability = round(float(probabilities[best]), 4)
            entry: dict[str, Any] = {"path": str(path), "prediction": classes[best]}
            entry["probability"] = probability
            label = label_of(path, source, classes)
            right = classes[best] == label if label else None
            if label:
                entry["label"] = label
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            mark = {None: "", True: "", False: f"  wrong: {label}"}[right]
            log.info("%-*s  %s  %.1f %%%s", width, path, classes[best], 100 * probability, mark)
            picture.thumbnail((sheet.pixels, sheet.pixels), Image.Resampling.BILINEAR)
            cells.append(Cell(picture, classes[best], probability, label, right))
            if len(cells) > 2 * sheet.pictures:  # a large folder must not fill the memory
                cells = most_doubtful(cells, sheet.pictures)
            outcomes += [] if right is None else [right]
    if not cells:
        raise UserError(f"input = {', '.join(map(str, cfg.input or []))}: nothing to recognize")
    if outcomes:
        log.info("right: %d of %d whose folder names their class", sum(outcomes), len(outcomes))
    draw_sheet(cells, sheet, output_dir / "recognized.png")
    log.info("written to %s", output_dir)


def label_of(path: Path, source: Path, classes: list[str]) -> str | None:
    """The class whose name a picture's folder has: the first one below the source, as in training.

    Else the one that it lies in, or the source itself.
    """
    below = path.relative_to(source).parts[:-1]
    folders = (*below[:1], path.absolute().parent.name, source.absolute().name)
    return next((name for name in folders if name in classes), None)
