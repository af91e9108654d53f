"""mode=evaluate: loss and accuracy on the held-out split."""

from pathlib import Path

import torch.nn.functional as F
from torch import nn

from .config import Config
from .engine.inference.evaluate import Row, evaluate_split
from .engine.project import Batch
from .project import PROJECT


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The loss of each point, and whether it was right."""
    logits = model(batch["points"]).float()
    losses = F.cross_entropy(logits, batch["classes"], reduction="none").tolist()
    right = (logits.argmax(dim=1) == batch["classes"]).tolist()
    return [{"loss": loss, "right": it} for loss, it in zip(losses, right, strict=True)]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Loss (mean over the points) and accuracy."""
    loss, right = (sum(row[key] for row in rows) / len(rows) for key in ("loss", "right"))
    return {"loss": loss, "accuracy": right}


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint; return the objective."""
    metrics, _ = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    return metrics[cfg.training.objective.metric]
