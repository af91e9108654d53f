# Kept by the template; an update merges what you change here.
"""Run directories: their names, their lock, the command line they record. No torch here."""

import fcntl
import hashlib
import json
import logging
import os
import re
import shlex
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from .aliases import LOADER, split_override
from .errors import UserError
from .manifest import CHECKPOINTS

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"  # .hydra has one too, but of the last command, accepted or not
RECORD = "record.json"
LOCK = ".lock"
COMMAND = "RUN_COMMAND"  # in the environment: what was typed, for the processes that it starts
LONGEST_NAME = 120

NOT_IN_A_NAME = ("name", "runs_dir", "resume")

# of the command line that a run recorded, what its model and data need
REPLAYED = ("model", "data", "experiment")


def output_dir(mode: str, runs_dir: str, name: object, checkpoint: str | None) -> str:
    """runs/NAME to train in; runs/NAME/evaluate/… for what is done with the run NAME later."""
    folder = str(name)  # name=20261123 arrives as a number
    if mode == "train":
        return str(Path(runs_dir, folder))
    run = run_of(Path(checkpoint)) if checkpoint else None
    return str(Path(run or Path(runs_dir, folder), mode, folder))


def shorter(path: Path) -> Path:
    """The path from here, if it is below; as people type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def job_name(overrides: Sequence[str]) -> str:
    """A job's directory with another sweeper than ours: all its overrides, never its number."""
    return readable_name(overrides, short=False)


def readable_name(overrides: Sequence[str], short: bool = True) -> str:
    """`lr=0.0003` for training.optim.lr=3e-4, whatever the order; long ones end in a checksum."""
    split = sorted(of_the_job(overrides), key=lambda parts: parts[1])
    last = Counter(key.rpartition(".")[2] for _, key, _ in split)
    parts = []
    for prefix, key, value in split:
        name = key.rpartition(".")[2]
        if last[name] > 1 or name == "name" or not short:
            name = key
        parts.append(prefix.strip("+") + name + canonical(value))
    name = ",".join(parts) or "defaults"
    readable = re.sub(r"[^\w.,=+-]", "_", name)
    if readable == name and len(name) <= LONGEST_NAME:
        return name
    return f"{readable[:LONGEST_NAME]},{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def of_the_job(overrides: Iterable[str]) -> list[tuple[str, str, str]]:
    """Of a command line, what says what a job is, as prefix, key and value."""
    return [split for split in map(split_override, overrides) if is_the_jobs(split[1])]


def is_the_jobs(key: str) -> bool:
    """Whether an override of this key says what a job is, not how a sweep goes."""
    other = key.startswith(("hydra.", "hydra/", "sweep.", "slurm."))
    return key not in NOT_IN_A_NAME and not other


def canonical(value: str) -> str:
    """`=3e-4` and `=0.0003` are one job."""
    try:
        return f"={float(value[1:])}" if re.search(r"[.eE]", value) else value
    except ValueError:
        return value


def run_of(path: Path) -> Path | None:
    """The run directory that is meant: runs/NAME itself, or the one that holds this checkpoint."""
    for run in (path, path.parent, path.parent.parent):
        if (run / OVERRIDES).is_file() and (run / CHECKPOINTS).is_dir():
            return run
    return None


def go_on_command(name: str) -> str:
    """What to type so that a run of this name goes on."""
    command = os.environ.get(COMMAND, "python train.py")
    return command if re.search(r"(^| )'?name=", command) else f"{command} name={shlex.quote(name)}"


def overrides(run: Path) -> list[str]:
    """The command line of a run, as it was accepted."""
    return list(read_yaml(run / OVERRIDES) or [])


def recorded_overrides(run: Path, given: list[str]) -> list[str]:
    """The model and data choices of the run's own command line that are not given anew."""
    keys = {split_override(override)[1] for override in given}
    recorded = replayed(overrides(run))
    return [o for o in recorded if split_override(o)[1] not in keys and _group(o) not in keys]


def replayed(overrides: list[str]) -> list[str]:
    """Of a command line, what decides the model and the data."""
    return [o for o in overrides if _group(o) in REPLAYED]


def _group(override: str) -> str:
    return re.split(r"[./@]", split_override(override)[1])[0]


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config that the run began with; only ever compared, never run."""
    return read_yaml(run / CONFIG) or {}


def read_yaml(file: Path) -> Any:
    """What a run wrote as YAML; None if it did not. Raises UserError if it is damaged."""
    try:
        return yaml.load(file.read_text("utf-8"), LOADER) if file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{file}: damaged, no longer the YAML that the run wrote") from None


def read_record(run: Path) -> dict[str, Any]:
    """What record.json says of a run; nothing if it is not there, or not whole."""
    try:
        record: Any = json.loads((run / RECORD).read_text("utf-8"))
    except (OSError, ValueError):  # somebody's edit is never a reason to stop a run
        return {}
    return record if isinstance(record, dict) else {}


def is_first_node(cfg: "Config") -> bool:
    """Whether this machine owns the run's directory; of several, the others take part."""
    processes = cfg.training.processes
    return processes.nodes == 1 or processes.node == 0


_locks: dict[Path, IO[str]] = {}


def lock(run: Path) -> None:
    """Keep a run's directory for this process, until it ends. Raises UserError if it is taken.

    A POSIX lock: the system lets go of it however the process ends, and data workers, which are
    forked, do not inherit it.
    """
    path = (run / LOCK).resolve()
    if path in _locks:
        return
    run.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    _claim(file, run)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%X')}\n")
    file.flush()
    _locks[path] = file


def unlock(run: Path) -> None:
    """Let go of it before the process ends, for the jobs of a sweep."""
    if file := _locks.pop((run / LOCK).resolve(), None):
        file.close()


def check_unlocked(run: Path) -> None:
    """Raises UserError if another process trains in this directory."""
    if (run / LOCK).exists() and (run / LOCK).resolve() not in _locks:
        with (run / LOCK).open("r+") as file:
            _claim(file, run)


def _claim(file: IO[str], run: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip()
        raise UserError(
            f"name = {run.name}: {run} is in use by {holder or 'another process'}\n"
            "wait for that run or stop it, or give another name"
        ) from None
    except OSError as error:  # some cluster file systems have none
        log.warning("%s: no locks here (%s); start no second run of this name", run, error.strerror)
