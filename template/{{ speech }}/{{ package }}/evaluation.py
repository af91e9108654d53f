"""mode=evaluate: loss and character error rate on the held-out split."""

from pathlib import Path

import jiwer
from torch import nn

from .config import Config
from .engine.inference.evaluate import Row, evaluate_split
from .engine.project import Batch
from .model import ctc_loss, decode
from .project import PROJECT


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The loss, the transcript and the recognized text of each item."""
    vocabulary = cfg.data.vocabulary
    log_probs, frames = model(batch["audio"], batch["samples"])
    losses = ctc_loss(log_probs, frames, batch).tolist()
    read = decode(log_probs, frames, vocabulary)
    return [
        {
            "loss": loss,
            "said": "".join(vocabulary[c - 1] for c in target if c),
            "read": "".join(symbol for symbol, _ in symbols),
        }
        for loss, target, symbols in zip(losses, batch["targets"].tolist(), read, strict=True)
    ]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Loss (mean over the items) and character error rate."""
    cer = jiwer.cer([row["said"] for row in rows], [row["read"] for row in rows])
    return {"loss": sum(row["loss"] for row in rows) / len(rows), "cer": float(cer)}


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json and items.jsonl; return the objective."""
    metrics, _ = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    return metrics[cfg.training.objective.metric]
