"""Types of conf/tracker; `kind` tells them apart. Keys and passwords come from the environment."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..engine.schema import Section, Text


class NoTracker(Section):
    """metrics.jsonl alone."""

    kind: Literal["none"]


class TensorBoard(Section):
    """Event files in the run's directory."""

    kind: Literal["tensorboard"]


class WeightsAndBiases(Section):
    """wandb.ai, or its files alone with mode: offline."""

    kind: Literal["wandb"]
    project: Text
    entity: Text | None
    mode: Literal["online", "offline"]
    init_seconds: PositiveFloat
    finish_seconds: NonNegativeFloat


class MLflow(Section):
    """A tracking server, or a local database."""

    kind: Literal["mlflow"]
    uri: Text
    experiment: Text
    timeout_seconds: PositiveInt
    retries: NonNegativeInt
    retry_seconds: NonNegativeFloat


Tracker = Annotated[
    NoTracker | TensorBoard | WeightsAndBiases | MLflow, Field(discriminator="kind")
]
