"""Recognizes files; the project finds the files of a folder, and recognizes each."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints.files import find_checkpoint
from ..checkpoints.store import load_model
from ..config import Config
from ..distributed.devices import autocast, set_up_device
from ..errors import UserError
from ..project import Project
from ..terminal import track

log = logging.getLogger(__name__)

FindFiles = Callable[[Path], Iterable[str | Path]]
RecognizeFile = Callable[[nn.Module, Path, Path], tuple[dict[str, Any], str]]
"""Called with the model, a file and the entry of cfg.input that it belongs to.

Returns the file's row and its text for the terminal. Raises UserError for a damaged file.
"""


@torch.inference_mode()
def recognize_files(
    project: Project,
    cfg: Config,
    output_dir: Path,
    find_files: FindFiles,
    recognize_file: RecognizeFile,
    results: str = "recognized.jsonl",
) -> list[dict[str, Any]]:
    """Recognize the files and folders of cfg.input; print the rows, write them to `results`.

    Returns them. Raises UserError if no file can be read.
    """
    checkpoint, device = find_checkpoint(Path(cfg.checkpoint or "")), set_up_device(cfg)
    model = load_model(project.build_model(cfg), checkpoint).to(device).eval()
    sources = [Path(source) for source in cfg.input or []]
    files = [
        (Path(file), source)
        for source in sources
        for file in (find_files(source) if source.is_dir() else [source])
    ]
    width, rows = max(len(str(path)) for path, _ in files), []
    with (output_dir / results).open("w", encoding="utf-8") as lines:
        for path, source in track(files, cfg.mode, len(files)):
            try:
                with autocast(device, cfg.training.run.precision):
                    row, text = recognize_file(model, path, source)
            except UserError as error:
                log.warning("skipped: %s", error)
                continue
            rows.append(row)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            log.info("%-*s  %s", width, path, text)
    if not rows:
        raise UserError(f"input = {', '.join(map(str, sources))}: nothing that can be read")
    log.info("written to %s", output_dir)
    return rows
