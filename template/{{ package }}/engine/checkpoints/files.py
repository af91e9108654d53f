"""Reads and writes checkpoint.json, and finds checkpoints. No torch here."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..run_dir.paths import CHECKPOINTS, parse_json

log = logging.getLogger(__name__)

FORMAT = 1
ABOUT = "checkpoint.json"  # written last
WEIGHTS = "weights.safetensors"
STATE = "state.pt"


@dataclass
class Progress:
    """The progress of a run, as checkpoint.json stores it."""

    iteration: int
    last_eval: int  # the iteration of the last evaluation
    best: float | None  # the best objective so far
    best_iteration: int  # 0 without one
    evals_since_best: int
    skipped: int  # consecutive iterations that training.run.on_nonfinite=skip has skipped
    seconds: float  # spent in iterations, which training.run.max_minutes limits


@dataclass
class _About:
    progress: Progress
    metric: str
    goal: Literal["minimize", "maximize"]
    objective: float | None
    overrides: list[str]
    config: dict[str, Any]
    identity: dict[str, str]
    data: dict[str, tuple[str, str, str, str] | None]
    files: dict[Literal["weights.safetensors", "state.pt"], dict[str, int | str]]


def write_about(checkpoint: Path, about: dict[str, Any]) -> None:
    """Replace checkpoint.json in one step: a kill leaves the old or the new one."""
    beside = checkpoint / f".{ABOUT}"
    beside.write_text(_seal({"format": FORMAT, **about}), "utf-8")
    sync(beside)
    beside.replace(checkpoint / ABOUT)
    sync(checkpoint)


def read_about(checkpoint: Path) -> dict[str, Any]:
    """checkpoint.json. Raises ValueError if it is damaged, UserError if its format is newer."""
    status = (checkpoint / ABOUT).stat()
    return _read_about(checkpoint, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)  # the checks before a run and the run read the same one
def _read_about(checkpoint: Path, size: int, changed: int) -> dict[str, Any]:
    text = (checkpoint / ABOUT).read_text("utf-8")
    about: dict[str, Any] = parse_json(text, dict[str, Any])
    if _seal(about) != text:
        raise ValueError
    if about.get("format") != FORMAT:
        raise UserError(
            f"{checkpoint}: has format {about.get('format')}, and this code reads format {FORMAT}\n"
            "it was written by another version of the template: copier update may add it"
        )
    parse_json(text, _About)
    return about


def _seal(about: dict[str, Any]) -> str:
    rest = {key: value for key, value in about.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, "sha256": digest}, indent=2, ensure_ascii=False) + "\n"


def find_damage(checkpoint: Path, thorough: bool = True) -> str | None:
    """Why a checkpoint is damaged, or None; checksums are compared only if `thorough`."""
    try:
        for name, written in read_about(checkpoint)["files"].items():
            file = checkpoint / name
            if (size := file.stat().st_size) != written.get("bytes"):
                return f"{name} has {size} bytes, not {written.get('bytes')}"
            if thorough and fingerprint(file) != written:
                return f"{name} does not match its recorded checksum"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror}"
    except ValueError:
        return f"{ABOUT} is not as it was written"
    return None


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, without the user's copies under other names."""
    found = [file.parent for file in (run / CHECKPOINTS).glob(f"iteration-*/{ABOUT}")]
    return sorted(path for path in found if not _is_copy(path))


def _is_copy(checkpoint: Path) -> bool:
    with suppress(ValueError, OSError):  # damaged
        iteration = read_about(checkpoint)["progress"]["iteration"]
        return checkpoint.name != f"iteration-{iteration:09d}"
    return False


def first_intact(candidates: Iterable[Path], warn: bool = False) -> Path | None:
    """The first of these checkpoints that is not damaged; with `warn`, logs the damaged ones."""
    for checkpoint in candidates:
        damage = find_damage(checkpoint)
        if not damage:
            return checkpoint
        if warn:
            log.warning("%s is damaged and left out: %s", checkpoint, damage)
    return None


def newest_checkpoint(run: Path, warn: bool = False) -> Path | None:
    """The newest intact checkpoint of a run, from which it resumes."""
    return first_intact(reversed(list_checkpoints(run)), warn)


def list_damages(run: Path) -> list[str]:
    """A line for each damaged checkpoint of a run."""
    return [f"{it} is damaged: {why}" for it in list_checkpoints(run) if (why := find_damage(it))]


def best_first(run: Path) -> list[Path]:
    """A run's complete checkpoints, best first by the newest one's objective, then the others.

    Their files are there and have the right size; checksums would take long.
    """
    about = {c: read_about(c) for c in list_checkpoints(run) if not find_damage(c, thorough=False)}
    kind = itemgetter("metric", "goal")  # values of different kinds do not compare
    values = {
        checkpoint: -its["objective"] if its["goal"] == "maximize" else its["objective"]
        for checkpoint, its in about.items()
        if its["objective"] is not None and kind(its) == kind([*about.values()][-1])
    }
    return sorted(values, key=lambda c: values[c]) + [c for c in reversed(about) if c not in values]


def find_checkpoint(path: Path, key: str = "checkpoint") -> Path:
    """The checkpoint at a path, or the best one of the run there.

    Raises UserError, naming the config's `key`, if there is none, or it is damaged.
    """
    given = f"{key} = {path}"
    path = path.parent if path.name == CHECKPOINTS else path
    if (path / ABOUT).is_file():
        if damage := find_damage(path):
            raise UserError(f"{given}: damaged, {damage}; expected another checkpoint of the run")
        return path
    if not path.exists():
        raise UserError(f"{given}: no such file or directory; expected runs/NAME")
    if jobs := sorted(p.parent for p in path.glob(f"*/{CHECKPOINTS}")):
        shown = [f"""'{key}="{job}"'""" for job in jobs[:10]] + ["…"] * (len(jobs) > 10)
        raise UserError("\n".join([f"{given}: holds several runs, choose one:", *shown]))
    if best := first_intact(best_first(path), warn=True):
        return best
    damages = list_damages(path)
    none = f"no {'intact ' * bool(damages)}checkpoint in it"
    raise UserError("\n".join([f"{given}: {none}; expected runs/NAME or one in it", *damages]))


def fingerprint(file: Path) -> dict[str, Any]:
    """A file's size and SHA-256."""
    status = file.stat()
    return {"bytes": status.st_size, "sha256": _digest(file, status.st_size, status.st_mtime_ns)}


@functools.lru_cache(maxsize=64)
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
