"""A run's directory: where it is, and reading what the run wrote there. No torch here."""

import csv
import itertools
import json
import logging
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"  # of the last accepted command; .hydra's may be of a refused one
RECORD = "record.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
JOB_OUTPUT = "output.log"
SLURM_ID = "slurm.id"
TRIAL = "trial.json"  # of a run that mode=check fit=true measures
CODE = ".code"
SEARCH_SUMMARY = "search.txt"  # of a search's directory
OF_A_RUN = (LOCK, ".hydra", OVERRIDES, CHECKPOINTS, JOB_OUTPUT, SLURM_ID, CODE)
COMMAND = "RUN_COMMAND"  # environment variable: the user's command line, for child processes
TRIAL_KIND = "RUN_TRIAL"  # environment variable: what kind of trial a run of fit=true is
JOB_DIR = "SWEEP_JOB_DIR"  # environment variable: where a job of a sweep works
DEEPEST = 100  # levels of YAML in flow style
INDENT = re.compile(r"^[-?: ]{400}", re.MULTILINE)
FORMULA = re.compile(r"[=+@\t\r\n]|-(?!\.?\d[\d.eE+-]*$)")  # but not negative numbers


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The C loader, ten times as fast; it crashes on very deep nesting, which is refused here."""

    def __init__(self, text: str) -> None:
        steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
        if max(itertools.accumulate(steps), default=0) > DEEPEST or INDENT.search(text):
            raise yaml.YAMLError(f"nested more than {DEEPEST} deep")
        super().__init__(text)


def output_dir(mode: str, runs_dir: str, name: object, checkpoint: str | None) -> str:
    """runs/NAME for training; runs/NAME/evaluate/… for results of other modes on the run NAME.

    Results on a run outside runs_dir, or on a read-only one, go to runs/evaluate/… instead.
    """
    if job := os.environ.get(JOB_DIR):
        return job
    if mode == "train":
        return str(Path(runs_dir, str(name)))
    run = find_run(Path(checkpoint)) if checkpoint else None
    is_ours = run and run.resolve().is_relative_to(Path(runs_dir).resolve())
    parent = run if run and is_ours and os.access(run, os.W_OK) else Path(runs_dir)
    return str(Path(parent, mode, str(name)))


def relative(path: Path) -> Path:
    """The path relative to the working directory, if it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def find_run(path: Path) -> Path | None:
    """The run directory of a path: the path itself, or the run that holds this checkpoint."""
    for run in (path, path.parent, path.parent.parent):
        if (run / OVERRIDES).is_file() and (run / CHECKPOINTS).is_dir():
            return run
    return None


def resume_command(name: str) -> str:
    """The command line that resumes the run of this name."""
    command = os.environ.get(COMMAND, "python train.py")
    return command if re.search(r"(^| )'?name=", command) else f"{command} name={shlex.quote(name)}"


def read_overrides(run: Path) -> list[str]:
    """The overrides of the run's last accepted command line."""
    return list(_read_yaml(run / OVERRIDES, list[str]) or [])


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config that the run started with; only to compare, never used as a config."""
    return _read_yaml(run / CONFIG, dict[str, Any]) or {}


def _read_yaml(file: Path, kind: Any) -> Any:
    """A file that a run wrote; None if it is missing. Raises UserError if it is damaged."""
    from pydantic import TypeAdapter

    if not file.is_file():
        return None
    try:
        text = file.read_text("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader)):
            raise ValueError  # the file is not trusted: aliases expand endlessly
        return TypeAdapter(kind).validate_python(yaml.load(text, Loader), strict=True)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except Exception:  # its reader raises many kinds
        raise UserError(f"{file}: damaged, no longer the YAML that the run wrote") from None


def parse_json(text: str, kind: Any) -> Any:
    """The value of untrusted JSON. Raises ValueError if it is not of this kind."""
    from pydantic import TypeAdapter
    from pydantic_core import from_json

    TypeAdapter(kind).validate_json(text, strict=True)
    return from_json(text)  # unlike Python's own, it limits nesting


@dataclass
class _Record:
    state: str = ""
    objective: float | None = None
    began: str = ""
    ended: str = ""
    ended_by: str = ""
    changed: list[str] = field(default_factory=list)
    git: dict[str, str | list[str]] = field(default_factory=dict)
    data: dict[str, list[str] | None] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    earlier: list["_Record"] = field(default_factory=list)


def read_record(run: Path) -> dict[str, Any]:
    """A run's record.json; empty if it is missing or damaged."""
    try:
        return dict(parse_json((run / RECORD).read_text("utf-8"), _Record))
    except (OSError, ValueError):  # a damaged record is never a reason to stop a run
        return {}


def write_record(run: Path, record: dict[str, Any]) -> None:
    """Write a run's record.json."""
    beside = run / f".{RECORD}"
    try:
        beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(run / RECORD)
    except OSError as error:  # a full disk
        log.warning("%s could not be written: %s", run / RECORD, error.strerror)


def write_csv(file: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table. An apostrophe keeps a spreadsheet from running text as a formula."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        for row in rows:
            cells = [f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in row]
            csv.writer(opened).writerow(cells)
