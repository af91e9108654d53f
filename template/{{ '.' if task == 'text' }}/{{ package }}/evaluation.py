"""mode=evaluate: loss and bits per byte on the held-out split, or on files one by one."""

import logging
import math
from functools import partial
from pathlib import Path

from torch import nn

from .config import Config
from .data import Windows, collate
from .engine.errors import UserError
from .engine.inference import Row, evaluate_split, recognize_files
from .engine.project import Batch
from .model import token_losses
from .project import PROJECT
from .texts import find_inputs, read_file
from .tokenizer import open_encoder
from .tokens import Piece, Tokens, encode

log = logging.getLogger(__name__)


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The losses of each window's tokens together, how many there are, and how many bytes."""
    losses, counts = token_losses(model, batch)
    nats, tokens = losses.double().sum(1).tolist(), counts.tolist()
    return [
        {"nats": sum_, "tokens": count, "bytes": size}
        for sum_, count, size in zip(nats, tokens, batch["bytes"].tolist(), strict=True)
    ]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Loss (nats per token), and bits per byte of text, which tokenizers do not change."""
    nats, tokens, size = (sum(row[key] for row in rows) for key in ("nats", "tokens", "bytes"))
    return {"loss": nats / tokens, "bits_per_byte": nats / math.log(2) / max(size, 1)}


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint on the held-out split or on cfg.input; return the objective."""
    if cfg.input:
        measure = partial(measure_file, cfg=cfg)
        rows = recognize_files(PROJECT, cfg, output_dir, find_inputs, measure, "files.jsonl")
        metrics = compute_metrics(rows, cfg)
        log.info("%d files together: %.4f bits per byte", len(rows), metrics["bits_per_byte"])
        return metrics[cfg.training.objective.metric]
    metrics, _ = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    return metrics[cfg.training.objective.metric]


def measure_file(model: nn.Module, path: Path, source: Path, cfg: Config) -> tuple[Row, str]:
    """Bits per byte of one file. Raises UserError if it has no text."""
    text = b"".join(read_file(str(path)))
    if not text.strip():
        raise UserError(f"{path}: no text")
    tokenizer = cfg.data.tokenizer
    pieces = [Piece(str(path), True, text, 0), Piece("", True, b"", 0)]
    ids = list(encode(iter(pieces), open_encoder(tokenizer), tokenizer))
    windows = Windows(Tokens(ids, 1, len(text)), cfg.model.context, None, str(path), [])
    size, device, rows = cfg.training.loader.batch_size, next(model.parameters()).device, []
    for first in range(0, len(windows), size):
        items = [windows[i] for i in range(first, min(first + size, len(windows)))]
        batch = {name: it.to(device) for name, it in collate(items, cfg).items()}
        rows += measure_batch(model, batch, cfg)
    totals = {key: sum(row[key] for row in rows) for key in rows[0]}
    metrics = compute_metrics(rows, cfg)
    row = {"path": str(path), **totals, **metrics}
    return row, f"{metrics['bits_per_byte']:.3f} bits per byte, {len(text)} bytes"
