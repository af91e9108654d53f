"""mode=evaluate: loss and accuracy on the held-out split."""

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .config import Config
from .data import Batch, open_items
from .engine.checkpoints import load_model
from .engine.devices import autocast, move, set_up_device
from .engine.identity import warn_of_changed_data
from .engine.loaders import eval_loader
from .engine.processes import gather
from .model import build_model

log = logging.getLogger(__name__)

Row = dict[str, Any]


@torch.inference_mode()
def measure(
    model: nn.Module, batches: Iterable[Batch], cfg: Config
) -> tuple[dict[str, float], list[Row]]:
    """Loss (mean over the items), accuracy, and its mean over the classes; and each item.

    Of several processes each measures its share of the batches; all return the whole.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    classes = cfg.data.classes
    losses: list[float] = []
    rows: list[Row] = []
    for batch in tqdm(batches, desc="evaluate", leave=False, disable=None):
        batch = move(batch, device)
        with autocast(device, cfg.training.run.precision):
            logits = model(batch["pictures"]).float()
        losses += F.cross_entropy(logits, batch["classes"], reduction="none").tolist()
        probabilities, read = logits.softmax(dim=1).max(dim=1)
        columns = (batch["classes"].tolist(), read.tolist(), probabilities.tolist())
        for truth, best, probability in zip(*columns, strict=True):
            row = {"label": classes[truth], "prediction": classes[best]}
            rows.append({**row, "probability": round(probability, 4)})
    model.train(was_training)
    losses, rows = gather(losses), gather(rows)
    there = Counter(row["label"] for row in rows)
    right = Counter(row["label"] for row in rows if row["label"] == row["prediction"])
    metrics = {
        "loss": sum(losses) / len(losses),
        "accuracy": right.total() / len(rows),
        # the same for each class, however many there are of it
        "balanced_accuracy": sum(right[name] / there[name] for name in there) / len(there),
    }
    return metrics, rows


def evaluate(cfg: Config, checkpoint: Path, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json, items.jsonl and confusion.csv.

    Returns the objective.
    """
    split = cfg.data.held_out
    warn_of_changed_data(cfg, split, checkpoint)
    device = set_up_device(cfg.training.run)
    model = load_model(build_model(cfg), checkpoint).to(device)
    metrics, rows = measure(model, eval_loader(cfg, split, cfg.training.run.eval_batches), cfg)

    result = {"checkpoint": str(checkpoint), "split": split, **metrics}
    (output_dir / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    items = open_items(cfg, split)
    named = [{"item": items.name(i), **row} for i, row in enumerate(rows)]
    with (output_dir / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in named)
    shown = " · ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    log.info("%s split, %d items: %s", split, len(rows), shown)
    pairs = Counter((row["label"], row["prediction"]) for row in rows)
    with (output_dir / "confusion.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label \\ prediction", *cfg.data.classes])
        for label in cfg.data.classes:
            table.writerow([label, *(pairs[label, name] for name in cfg.data.classes)])
    wrong = Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]})
    for (label, prediction), count in wrong.most_common(3):
        log.info("%s taken for %s: %d of %d mistakes", label, prediction, count, wrong.total())
    log.info("written to %s", output_dir)
    return metrics[cfg.training.objective.metric]
