"""The network: a perceptron."""

import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .engine.project import Batch


def build_model(cfg: Config) -> nn.Module:
    """The network, with new weights."""
    model, parts, width = cfg.model, list[nn.Module](), 2
    for _ in range(model.layers):
        parts += [nn.Linear(width, model.width), nn.GELU(), nn.Dropout(model.dropout)]
        width = model.width
    return nn.Sequential(*parts, nn.Linear(width, len(cfg.data.classes)))


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The sum of the batch's losses, and its weight: each item weighs 1."""
    logits, classes = model(batch["points"]).float(), batch["classes"]
    return F.cross_entropy(logits, classes, reduction="sum"), len(classes)
