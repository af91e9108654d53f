"""The network: a perceptron that scales its features and computes its own loss."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .data import open_items
from .engine.errors import UserError
from .engine.project import Batch


class Scale(nn.Module):
    """Subtracts the mean and divides by the standard deviation; checkpoints keep both."""

    mean: Tensor
    std: Tensor

    def __init__(self, values: Tensor) -> None:
        """Values [items, …] of the training split."""
        super().__init__()
        std, mean = torch.std_mean(values, dim=0, correction=0)
        self.register_buffer("mean", mean)
        self.register_buffer("std", torch.where(std > 0, std, 1))

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        return (values - self.mean) / self.std

    def inverse(self, scaled: Tensor) -> Tensor:
        """The same shape, in the units of the data."""
        return scaled * self.std + self.mean


class Perceptron(nn.Module):
    """Predicts classes, or numbers where their scale is given."""

    def __init__(
        self, features: Scale, numbers: Scale | None, sizes: list[int], dropout: float
    ) -> None:
        """`sizes` are the numbers of inputs, of units in each hidden layer, and of outputs."""
        super().__init__()
        self.features, self.numbers = features, numbers
        hidden: list[nn.Module] = []
        for before, width in pairwise(sizes[:-1]):
            hidden += [nn.Linear(before, width), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-2], sizes[-1]))

    def forward(
        self, features: Tensor, answers: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits [items, classes] or numbers [items]; the loss of each item, given the answers.

        The loss of numbers is the squared error, as a fraction of their variance.
        """
        outputs, losses = self.layers(self.features(features)).float(), None
        if self.numbers is None:
            if answers is not None:
                losses = F.cross_entropy(outputs, answers, reduction="none")
            return outputs, losses
        outputs = outputs[:, 0]
        if answers is not None:
            losses = (outputs - self.numbers(answers)) ** 2
        return self.numbers.inverse(outputs), losses


def build_model(cfg: Config) -> nn.Module:
    """The network, with new weights and the scales of the training split.

    compute_loss, evaluation.py and recognition.py call it.
    """
    model, data = cfg.model, cfg.data
    try:
        items = open_items(cfg, "train")
        features, answers = torch.tensor(items.features), torch.tensor(items.answers)
    except (OSError, UserError):  # the training table may be gone: checkpoints have the scales
        features, answers = torch.zeros(1, len(data.features)), torch.zeros(1)
    sizes = [len(data.features), *[model.width] * model.layers, len(data.classes) or 1]
    numbers = None if data.classes else Scale(answers)
    return Perceptron(Scale(features), numbers, sizes, model.dropout)


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The sum of the batch's losses, and its weight: each item weighs 1."""
    _, losses = model(batch["features"], batch["answers"])
    return losses.sum(), len(losses)
