"""The types of conf/, name for name. No values here: a key without a value in YAML is an error."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..engine.schema import Harmless, Section, Text, conflict
from .data import Data, check_against_model
from .model import Model
from .report import Report
from .sweep import Slurm, Sweep
from .tracker import Tracker
from .training import Training


def _folder_name(name: str) -> str:
    unfit = name in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in name)
    if unfit or len(name.encode()) > 200:
        raise ValueError("a folder's name: no slash or control character, 1 to 200 bytes")
    return name


def _list(value: object) -> object:
    return value if value is None or isinstance(value, list) else [value]


Paths = Annotated[list[Text], Field(min_length=1)]


class Config(Section):
    """A whole run, as conf/config.yaml and the command line compose it."""

    mode: Harmless[Literal["train", "evaluate", "recognize", "check", "explain", "report"]]
    name: Harmless[Annotated[Text, AfterValidator(_folder_name)]]
    runs_dir: Harmless[Text]
    checkpoint: Harmless[Text | None]
    input: Harmless[
        Annotated[Paths | None, BeforeValidator(_list, json_schema_input_type=Text | Paths | None)]
    ]
    """One path, or a list of them."""
    key: Harmless[Text | None]
    format: Harmless[Literal["text", "json"]]
    resume: Harmless[Literal["auto", "force", "never"]]
    init: Text | None
    report: Harmless[Report]
    sweep: Harmless[Sweep]
    slurm: Harmless[Slurm]
    requeue: Harmless[bool]

    model: Model
    training: Training
    data: Data
    tracker: Harmless[Tracker]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode in ("evaluate", "recognize") and self.checkpoint is None:
            raise conflict("checkpoint", f"runs/NAME, which mode={self.mode} needs")
        if self.mode == "recognize" and self.input is None:
            raise conflict("input", "a file or a folder, which mode=recognize needs")
        check_against_model(self.data, self.model)
        return self
