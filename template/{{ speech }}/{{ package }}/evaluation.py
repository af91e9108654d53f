"""mode=evaluate: loss and character error rate on the held-out split."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

import jiwer
import torch
from torch import nn
from tqdm import tqdm

from .config import Config
from .data import Batch
from .engine.checkpoints import load_model
from .engine.devices import autocast, move, set_up_device
from .engine.identity import warn_of_changed_data
from .engine.loaders import eval_loader
from .engine.processes import gather
from .model import build_model, ctc_loss, decode

log = logging.getLogger(__name__)

Pair = dict[str, str]


@torch.inference_mode()
def measure(
    model: nn.Module, batches: Iterable[Batch], cfg: Config
) -> tuple[dict[str, float], list[Pair]]:
    """Loss (mean over the items) and character error rate; and each item as said and as read.

    Of several processes each measures its share of the batches; all return the whole.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    vocabulary = cfg.data.vocabulary
    losses: list[float] = []
    pairs: list[Pair] = []
    for batch in tqdm(batches, desc="evaluate", leave=False, disable=None):
        batch = move(batch, device)
        with autocast(device, cfg.training.run.precision):
            log_probs, frames = model(batch["audio"], batch["samples"])
        losses += ctc_loss(log_probs, frames, batch).tolist()
        for read, target in zip(
            decode(log_probs, frames, vocabulary), batch["targets"].tolist(), strict=True
        ):
            said = "".join(vocabulary[c - 1] for c in target if c)
            pairs.append({"said": said, "read": "".join(symbol for symbol, _ in read)})
    model.train(was_training)
    losses, pairs = gather(losses), gather(pairs)
    cer = jiwer.cer([p["said"] for p in pairs], [p["read"] for p in pairs])
    return {"loss": sum(losses) / len(losses), "cer": float(cer)}, pairs


def evaluate(cfg: Config, checkpoint: Path, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json and items.jsonl; return the objective."""
    warn_of_changed_data(cfg, cfg.data.held_out, checkpoint)
    device = set_up_device(cfg.training.run)
    model = load_model(build_model(cfg), checkpoint).to(device)
    loader = eval_loader(cfg, cfg.data.held_out, cfg.training.run.eval_batches)
    metrics, pairs = measure(model, loader, cfg)

    result = {"checkpoint": str(checkpoint), "split": cfg.data.held_out, **metrics}
    (output_dir / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    with (output_dir / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    shown = " · ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    log.info("%s split, %d items: %s", cfg.data.held_out, len(pairs), shown)
    log.info("written to %s", output_dir)
    return metrics[cfg.training.objective.metric]
