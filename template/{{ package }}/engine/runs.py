"""Run directories: their names, their lock, the command line they record. No torch here."""

import csv
import fcntl
import hashlib
import logging
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from .aliases import Loader, split_override
from .errors import UserError
from .manifest import CHECKPOINTS, parse_json

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"  # .hydra has one too, but of the last command, accepted or not
RECORD = "record.json"
LOCK = ".lock"
OF_A_RUN = (LOCK, ".hydra", OVERRIDES, CHECKPOINTS, "evaluate", "recognize")
LOOK_EVERY = 0.5  # seconds
COMMAND = "RUN_COMMAND"  # in the environment: what was typed, for the processes that it starts
LONGEST_NAME = 120
DEEPEST = 50  # levels of YAML; its reader in C crashes at some ten thousand
FORMULA = re.compile(r"[=+@\t\r\n]|-(?!\.?\d[\d.eE+-]*$)")  # but no negative number

NOT_IN_A_NAME = ("name", "runs_dir", "resume")


def output_dir(mode: str, runs_dir: str, name: object, checkpoint: str | None) -> str:
    """runs/NAME to train in; runs/NAME/evaluate/… for what is done with the run NAME later.

    Nothing is written to a run outside of runs_dir or one that is read-only: its results go to
    runs/evaluate/… instead.
    """
    if mode == "train":
        return str(Path(runs_dir, str(name)))
    run = run_of(Path(checkpoint)) if checkpoint else None
    is_ours = run and run.resolve().is_relative_to(Path(runs_dir).resolve())
    parent = run if run and is_ours and os.access(run, os.W_OK) else Path(runs_dir)
    return str(Path(parent, mode, str(name)))


def shorter(path: Path) -> Path:
    """The path from here, if it is below; as people type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def readable_name(overrides: Sequence[str], short: bool = False) -> str:
    """A job's overrides, whatever their order; long ones end in a checksum.

    In short `lr=0.0003` for training.optim.lr=3e-4.
    """
    split = sorted(of_the_job(overrides), key=lambda parts: parts[1])
    last = Counter(key.rpartition(".")[2] for _, key, _ in split)
    parts = []
    for prefix, key, value in split:
        name = key.rpartition(".")[2]
        is_clear = short and last[name] == 1 and name != "name"
        parts.append(prefix.strip("+") + (name if is_clear else key) + canonical(value))
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
    return key not in NOT_IN_A_NAME and not key.startswith(("hydra.", "hydra/", "sweep.", "slurm."))


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


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config that the run began with; only ever compared, never run."""
    return read_yaml(run / CONFIG) or {}


def read_yaml(file: Path) -> Any:
    """What a run wrote as YAML; None if it did not. Raises UserError if it is damaged."""
    from pydantic import TypeAdapter

    if not file.is_file():
        return None
    kind: Any = list[str] if file.name == OVERRIDES else dict[str, Any]
    depth = 0
    try:
        text = file.read_text("utf-8")
        for event in yaml.parse(text, Loader):  # anyone may have written it
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):  # aliases: short, yet endless
                raise ValueError
        return TypeAdapter(kind).validate_python(yaml.load(text, Loader), strict=True)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except Exception:  # whichever its reader happens to raise
        raise UserError(f"{file}: damaged, no longer the YAML that the run wrote") from None


@dataclass
class _Record:
    state: str = ""
    objective: float | None = None
    began: str = ""
    ended: str = ""
    changed: list[str] = field(default_factory=list)
    git: dict[str, str | list[str]] = field(default_factory=dict)
    data: dict[str, list[str] | None] = field(default_factory=dict)
    earlier: list["_Record"] = field(default_factory=list)


def read_record(run: Path) -> dict[str, Any]:
    """What record.json says of a run; nothing if it is not there, or not whole."""
    try:
        return dict(parse_json((run / RECORD).read_text("utf-8"), _Record))
    except (OSError, ValueError):  # somebody's edit is never a reason to stop a run
        return {}


def write_csv(file: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table. An apostrophe keeps a spreadsheet from running text as a formula."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        for row in rows:
            cells = [f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in row]
            csv.writer(opened).writerow(cells)


def is_first_node(cfg: "Config") -> bool:
    """Whether this machine owns the run's directory; of several, the others take part."""
    processes = cfg.training.processes
    return processes.nodes == 1 or processes.node == 0


_locks: dict[Path, IO[str]] = {}


def lock(run: Path, takeover_seconds: float) -> None:
    """Lock a run's directory for this process, until it ends. Raises UserError if it is in use.

    A POSIX lock: the system releases it however the process ends, and data workers, which are
    forked, do not inherit it. A requeued Slurm job whose earlier process lives on, on a node that
    was lost, asks it to save and leave, and waits for it.
    """
    path = (run / LOCK).resolve()
    if path in _locks:
        return
    run.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    me = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%X')}"
    if job := os.environ.get("SLURM_JOB_ID"):
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
        me += f", Slurm job {job}, start {start}"
    try:
        by = _claim(file, fcntl.LOCK_EX)
        if job and f", Slurm job {job}, " in by and not by.endswith(f" {start}"):
            print(f"waiting for {by}, to save and leave {run}", file=sys.stderr)
            print(file=file, flush=True)  # which it looks for
            until = time.monotonic() + takeover_seconds
            while by and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
                by = _claim(file, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems have none; not kept, so a log gets it too
        log.warning("%s: no locks here (%s); start no second run of this name", run, error.strerror)
        return
    if by:
        raise _in_use(run, by)
    file.truncate(0)
    print(me, end="", file=file, flush=True)
    _locks[path] = file
    if job:
        threading.Thread(target=_make_way, args=(path, file), daemon=True).start()


def _make_way(path: Path, file: IO[str]) -> None:
    """Stop this process, as SIGTERM does, once the same Slurm job waits for its directory."""
    size = path.stat().st_size
    while _locks.get(path) is file:
        if path.exists() and path.stat().st_size > size:
            log.warning("this Slurm job was requeued and waits for %s", path.parent)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(LOOK_EVERY)


def unlock(run: Path) -> None:
    """Release it before the process ends, for the jobs of a sweep."""
    if file := _locks.pop((run / LOCK).resolve(), None):
        file.close()


def check_unlocked(run: Path) -> None:
    """Raises UserError if another process trains in this directory."""
    if other := holder(run):
        raise _in_use(run, other)


def holder(run: Path) -> str:
    """The other process that trains in this directory, or nothing."""
    path = (run / LOCK).resolve()
    if path not in _locks:  # closing the file would release it
        with suppress(OSError), path.open() as file:
            return _claim(file, fcntl.LOCK_SH)
    return ""


def state(run: Path) -> str:
    """How a run ended. Where a killed one stays recorded as running, the lock tells them apart."""
    recorded = str(read_record(run).get("state", "unknown"))
    return "killed" if recorded == "running" and not holder(run) else recorded


def _claim(file: IO[str], kind: int) -> str:
    """Take a lock; return who has it, or nothing. Raises OSError where there are no locks."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        return file.read().strip() or "another process"
    return ""


def _in_use(run: Path, by: str) -> UserError:
    return UserError(
        f"name = {run.name}: {run} is in use by {by}\n"
        "wait for that run or stop it, or give another name"
    )
