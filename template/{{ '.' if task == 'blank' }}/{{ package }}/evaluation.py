"""mode=evaluate: loss and error on the held-out split."""

from pathlib import Path

from torch import Tensor, nn

from .config import Config
from .config.data import Spirals, Table
from .engine.inference import Row, evaluate_split
from .engine.project import Batch
from .project import PROJECT


def predict(outputs: Tensor, data: Spirals | Table) -> list[Row]:
    """The model's outputs as classes with their probabilities, or as numbers."""
    if not data.classes:
        return [{"prediction": number} for number in outputs.tolist()]
    probabilities, best = (found.tolist() for found in outputs.softmax(dim=1).max(dim=1))
    return [
        {"prediction": data.classes[i], "probability": round(probability, 4)}
        for i, probability in zip(best, probabilities, strict=True)
    ]


def name_answer(answer: float, data: Spirals | Table) -> str | float:
    """The class of this number, or the number that the answer is."""
    return data.classes[int(answer)] if data.classes else answer


def measure_error(prediction: str | float, label: str | float) -> float:
    """The absolute error of a number; 0 or 1 for a class."""
    if isinstance(prediction, str) or isinstance(label, str):
        return float(prediction != label)
    return abs(prediction - label)


def measure_batch(model: nn.Module, batch: Batch, cfg: Config) -> list[Row]:
    """The loss and the error of each item, its answer, and the prediction."""
    outputs, losses = model(batch["features"], batch["answers"])
    labels = [name_answer(answer, cfg.data) for answer in batch["answers"].tolist()]
    return [
        {"loss": loss, "error": measure_error(it["prediction"], label), "label": label, **it}
        for loss, label, it in zip(losses.tolist(), labels, predict(outputs, cfg.data), strict=True)
    ]


def compute_metrics(rows: list[Row], cfg: Config) -> dict[str, float]:
    """Means over the items. The error is the fraction of wrong classes, or absolute, of numbers."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in PROJECT.metrics}


def evaluate(cfg: Config, output_dir: Path) -> float:
    """Measure a checkpoint; write metrics.json and items.jsonl. Returns the objective."""
    metrics, _ = evaluate_split(PROJECT, cfg, output_dir, measure_batch, compute_metrics)
    return metrics[cfg.training.objective.metric]
