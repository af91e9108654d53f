"""mode=evaluate: loss and accuracy on the held-out split."""

import csv
import logging
from collections import Counter
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from .config import Config
from .engine import find_part
from .engine.inference import Row, evaluate_split
from .engine.project import Batch
from .project import PROJECT

log = logging.getLogger(__name__)


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The loss of each picture, its class, and the most likely class with its probability."""
    classes = cfg.data.classes
    logits = model(batch["pictures"]).float()
    losses = F.cross_entropy(logits, batch["classes"], reduction="none").tolist()
    probabilities, best = (found.tolist() for found in logits.softmax(dim=1).max(dim=1))
    return [
        {
            "loss": loss,
            "label": classes[label],
            "prediction": classes[prediction],
            "probability": round(probability, 4),
        }
        for loss, label, prediction, probability in zip(
            losses, batch["classes"].tolist(), best, probabilities, strict=True
        )
    ]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Loss (mean over the items), accuracy, and its mean over the classes."""
    there = Counter(row["label"] for row in rows)
    right = Counter(row["label"] for row in rows if row["label"] == row["prediction"])
    return {
        "loss": sum(row["loss"] for row in rows) / len(rows),
        "accuracy": right.total() / len(rows),
        # each class counts the same, however many items it has
        "balanced_accuracy": sum(right[name] / there[name] for name in there) / len(there),
    }


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json, items.jsonl, confusion.csv and .png.

    Returns the objective.
    """
    metrics, rows = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    pairs = Counter((row["label"], row["prediction"]) for row in rows)
    with (output_dir / "confusion.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label \\ prediction", *cfg.data.classes])
        for label in cfg.data.classes:
            table.writerow([label, *(pairs[label, name] for name in cfg.data.classes)])
    if confusion := find_part("report.confusion"):
        confusion.draw_confusion(output_dir / "confusion.png", cfg.data.classes, pairs)
    wrong = Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]})
    for (label, prediction), count in wrong.most_common(3):
        log.info("%s taken for %s: %d of %d mistakes", label, prediction, count, wrong.total())
    return metrics[cfg.training.objective.metric]
