"""Types of conf/tracker; `kind` tells them apart. Keys and passwords come from the environment."""

from typing import Annotated, Literal

from pydantic import Field

from ..engine.schema import Section

Text = Annotated[str, Field(min_length=1)]


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


class MLflow(Section):
    """A tracking server, or a local database."""

    kind: Literal["mlflow"]
    uri: Text
    experiment: Text


Tracker = Annotated[
    NoTracker | TensorBoard | WeightsAndBiases | MLflow, Field(discriminator="kind")
]
