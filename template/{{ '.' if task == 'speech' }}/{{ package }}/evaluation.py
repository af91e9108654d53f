"""mode=evaluate: loss and character error rate on the held-out split."""

from collections.abc import Iterable
from pathlib import Path

import jiwer
import torch
from torch import nn

from .audio import Audio
from .config import Config
from .data import open_items
from .engine import find_part
from .engine.inference import Row, evaluate_split
from .engine.project import Batch
from .model import Spectrogram, ctc_loss, decode
from .project import PROJECT

SHOWN, WIDTH = 16, 480  # items of recognized.png, and pixels of each


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The loss, the transcript and the recognized text of each item."""
    vocabulary = cfg.data.vocabulary
    log_probs, frames = model(batch["audio"], batch["samples"])
    losses = ctc_loss(log_probs, frames, batch).tolist()
    read = decode(log_probs, frames, vocabulary)
    return [
        {
            "loss": loss,
            "reference": "".join(vocabulary[c - 1] for c in target if c),
            "hypothesis": "".join(symbol for symbol, _ in symbols),
        }
        for loss, target, symbols in zip(losses, batch["targets"].tolist(), read, strict=True)
    ]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Loss (mean over the items) and character error rate."""
    cer = jiwer.cer([row["reference"] for row in rows], [row["hypothesis"] for row in rows])
    return {"loss": sum(row["loss"] for row in rows) / len(rows), "cer": float(cer)}


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics, items.jsonl, recognized.png; return the objective."""
    metrics, rows = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    items = open_items(cfg, cfg.data.held_out)
    errors = [jiwer.cer(row["reference"], row["hypothesis"]) for row in rows]
    worst = sorted(range(len(rows)), key=lambda i: (-errors[i], -rows[i]["loss"]))[:SHOWN]
    texts = [f"{row['hypothesis'] or '(empty)'}\n  is {row['reference']}" for row in rows]
    cells = ((items[i][0], f"{texts[i]}\n  {items.name(i)}", not errors[i]) for i in worst)
    title = f"{errors.count(0)} of {len(rows)} right; the {len(worst)} worst"
    draw_spectrograms(cfg, output_dir / "recognized.png", title, cells)
    return metrics[cfg.training.objective.metric]


def draw_spectrograms(
    cfg: Config, file: Path, title: str, items: Iterable[tuple[Audio, str, bool | None]]
) -> None:
    """Draw the spectrograms that the model sees, each above its text."""
    if not (sheet := find_part("report.sheet")):
        return
    encoder = cfg.model.encoder
    spectrogram = Spectrogram(encoder.window_samples, encoder.hop_samples, encoder.dynamic_range_db)
    cells = []
    for audio, text, right in items:
        frames, _ = spectrogram(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
        seconds = len(audio) / encoder.sample_rate
        shown = frames[0, :: 1 + frames.shape[1] // WIDTH]  # of an hour, what the picture can show
        cells.append((shown.T.flip(0).numpy(), f"{text} ({seconds:.1f}\u00a0s)", right))
    title += f"; 0 Hz (below) to {encoder.sample_rate // 2} Hz"
    sheet.draw_sheet(file, title, cells, columns=2, width=WIDTH, height=128)
