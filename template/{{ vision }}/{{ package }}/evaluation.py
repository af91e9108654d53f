"""mode=evaluate: loss and accuracy on the held-out split."""

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
from .engine.devices import autocast, move, pick_device
from .engine.loaders import eval_loader
from .engine.processes import gather
from .model import build_model

log = logging.getLogger(__name__)

Row = dict[str, Any]


@torch.inference_mode()
def measure(
    model: nn.Module, batches: Iterable[Batch], cfg: Config
) -> tuple[dict[str, float], list[Row]]:
    """Loss (mean over the items) and accuracy; and each item as it is and as it was read.

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
            row = {"is": classes[truth], "read": classes[best]}
            rows.append({**row, "probability": round(probability, 4)})
    model.train(was_training)
    losses, rows = gather(losses), gather(rows)
    right = sum(row["is"] == row["read"] for row in rows)
    return {"loss": sum(losses) / len(losses), "accuracy": right / len(rows)}, rows


def evaluate(cfg: Config, checkpoint: Path, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json and items.jsonl; return the objective."""
    split = cfg.data.held_out
    device = pick_device(cfg.training.run.device)
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
    wrong = Counter((row["is"], row["read"]) for row in rows if row["is"] != row["read"])
    for (truth, read), count in wrong.most_common(3):
        log.info("%s read as %s: %d of %d mistakes", truth, read, count, wrong.total())
    log.info("written to %s", output_dir)
    return metrics[cfg.training.objective.metric]
