"""The types of conf/, under the same names. No values here: a key that YAML lacks is an error."""

from typing import Self

from pydantic import model_validator

from ..engine.config import Config as EngineConfig
from .data import Data, check_against_model
from .model import Model
from .training import Training


class Config(EngineConfig):
    """A whole run, as conf/config.yaml and the command line compose it."""

    model: Model
    training: Training
    data: Data

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        check_against_model(self.data, self.model)
        return self
