"""Measures a model on a split, or recognizes files; the project defines how, item by item."""

import json
import logging
from collections.abc import Callable, Iterable
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints.files import find_checkpoint, read_about
from .checkpoints.identity import changed_data, digest_split
from .checkpoints.store import load_model
from .config import Config
from .data.loader import Loader, eval_loader
from .distributed.collectives import gather, is_main
from .distributed.devices import autocast, move, set_up_device
from .errors import UserError
from .project import Batch, Project
from .signals import Stop
from .terminal import format_values, print_json, track

log = logging.getLogger(__name__)

Row = dict[str, Any]
MeasureBatch = Callable[[nn.Module, Batch, Any], list[Row]]
"""Returns a row for each item of a batch, which is on the model's device."""
ComputeMetrics = Callable[[list[Row], Any], dict[str, float]]
"""Returns the metrics of all rows by name."""
FindFiles = Callable[[Path], Iterable[str | Path]]
RecognizeFile = Callable[[nn.Module, Path, Path], tuple[dict[str, Any], str]]
"""Called with the model, a file and the entry of cfg.input that it belongs to.

Returns the file's row and its text for the terminal. Raises UserError for a damaged file.
"""


@torch.inference_mode()
def measure(
    model: nn.Module, loader: Loader, cfg: Config, measure_batch: MeasureBatch, stop: Stop | None
) -> list[Row]:
    """Each item's row, of all processes; a stop ends it after a batch."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    rows: list[Row] = []
    total = length_hint(loader) or None  # a stream's is not known
    for batch in track(loader, "evaluate", total) if is_main() else loader:
        with autocast(device, cfg.training.run.precision):
            rows += measure_batch(model, move(batch, device), cfg)
        if stop and stop.signal:
            break
    model.train(was_training)
    return gather(rows)


def evaluate_split(
    project: Project,
    cfg: Config,
    output_dir: Path,
    measure_batch: MeasureBatch,
    compute_metrics: ComputeMetrics,
) -> tuple[dict[str, float], list[Row]]:
    """Measure cfg.checkpoint on the held-out split; write metrics.json and items.jsonl."""
    split, checkpoint = cfg.data.held_out, find_checkpoint(Path(cfg.checkpoint or ""))
    about = read_about(checkpoint)
    for line in changed_data(about, {split: digest_split(project, cfg, split)}):
        log.warning("unlike the run: %s", line)
    model = load_model(project.build_model(cfg), checkpoint).to(set_up_device(cfg))
    loader = eval_loader(project, cfg, split, cfg.training.run.eval_batches)
    rows = measure(model, loader, cfg, measure_batch, stop=None)
    metrics = compute_metrics(rows, cfg)
    step = about["progress"]["iteration"]
    result = {"checkpoint": str(checkpoint), "step": step, "split": split, **metrics}
    (output_dir / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    with (output_dir / "items.jsonl").open("w", encoding="utf-8") as lines:
        for name, row in zip(loader.names(), rows, strict=False):
            lines.write(json.dumps({"item": name, **row}, ensure_ascii=False) + "\n")
    log.info("%s split, %d items: %s", split, len(rows), format_values(metrics))
    log.info("written to %s", output_dir)
    if cfg.format == "json":
        print_json(result)
    return metrics, rows


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
