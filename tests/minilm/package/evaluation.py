"""mode=evaluate: the share of sentences whose topic is recognized."""

import torch.nn.functional as F

from .engine.inference import evaluate_split


def measure_batch(model, batch, cfg):
    logits = model(batch["tokens"])
    losses = F.cross_entropy(logits, batch["topic"], reduction="none").tolist()
    right = (logits.argmax(1) == batch["topic"]).tolist()
    return [{"loss": a, "right": b} for a, b in zip(losses, right, strict=True)]


def compute_metrics(rows, cfg):
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("loss", "right")}
    return {"loss": mean["loss"], "accuracy": mean["right"]}


def evaluate(cfg, run_dir):
    from .project import PROJECT

    return evaluate_split(PROJECT, cfg, run_dir, measure_batch, compute_metrics)[0]["accuracy"]
