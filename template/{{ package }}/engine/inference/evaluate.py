"""Measures a model on a split; the project defines the measurements and the metrics."""

import json
import logging
from collections.abc import Callable
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints.files import find_checkpoint, read_about
from ..checkpoints.identity import changed_split
from ..checkpoints.store import load_model
from ..config import Config
from ..data.loader import Loader, eval_loader
from ..distributed.collectives import gather, is_main
from ..distributed.devices import autocast, move, set_up_device
from ..project import Batch, Project
from ..signals import Stop
from ..terminal import format_values, print_json, track

log = logging.getLogger(__name__)

Row = dict[str, Any]
MeasureBatch = Callable[[nn.Module, Batch, Any], list[Row]]
"""Returns a row for each item of a batch, which is on the model's device."""
ComputeMetrics = Callable[[list[Row], Any], dict[str, float]]
"""Returns the metrics of all rows by name."""


@torch.inference_mode()
def measure(
    model: nn.Module,
    loader: Loader,
    cfg: Config,
    measure_batch: MeasureBatch,
    compute_metrics: ComputeMetrics,
    stop: Stop | None = None,
) -> tuple[dict[str, float], list[Row]]:
    """The metrics, and each item's row, of all processes; a stop ends it after a batch."""
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
    rows = gather(rows)
    return compute_metrics(rows, cfg), rows


def evaluate_split(
    project: Project,
    cfg: Config,
    output_dir: Path,
    measure_batch: MeasureBatch,
    compute_metrics: ComputeMetrics,
) -> tuple[dict[str, float], list[Row]]:
    """Measure cfg.checkpoint on the held-out split; write metrics.json and items.jsonl."""
    split, checkpoint = cfg.data.held_out, find_checkpoint(Path(cfg.checkpoint or ""))
    for line in changed_split(project, cfg, split, checkpoint):
        log.warning("unlike the run: %s", line)
    model = load_model(project.build_model(cfg), checkpoint).to(set_up_device(cfg))
    loader = eval_loader(project, cfg, split, cfg.training.run.eval_batches)
    metrics, rows = measure(model, loader, cfg, measure_batch, compute_metrics)
    step = read_about(checkpoint)["progress"]["iteration"]
    result = {"checkpoint": str(checkpoint), "step": step, "split": split, **metrics}
    (output_dir / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    with (output_dir / "items.jsonl").open("w", encoding="utf-8") as lines:
        for name, row in zip(loader.names(), rows, strict=False):
            named = {"item": name, **row}
            lines.write(json.dumps(named, ensure_ascii=False) + "\n")
    log.info("%s split, %d items: %s", split, len(rows), format_values(metrics))
    log.info("written to %s", output_dir)
    if cfg.format == "json":
        print_json(result)
    return metrics, rows
