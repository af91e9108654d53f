"""Reads and writes checkpoint.json, and finds checkpoints. No torch here."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
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
    last_eval: int
    """The iteration of the last evaluation."""
    best: float | None
    """The best objective so far."""
    best_iteration: int
    """The iteration of `best`; 0 without one."""
    evals_since_best: int
    skipped: int
    """Consecutive iterations that training.run.on_nonfinite=skip has skipped."""
    seconds: float
    """Time spent in iterations, which `training.run.max_minutes` limits."""


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


def complete_checkpoints(run: Path) -> list[Path]:
    """The checkpoints with a valid checkpoint.json and files of the right size; fast."""
    return [c for c in list_checkpoints(run) if find_damage(c, thorough=False) is None]


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
    found = {checkpoint: find_damage(checkpoint) for checkpoint in list_checkpoints(run)}
    return [f"{checkpoint} is damaged: {damage}" for checkpoint, damage in found.items() if damage]


def best_first(found: list[Path]) -> list[Path]:
    """Checkpoints, best first by the newest one's objective, then those without a value."""
    about = {checkpoint: read_about(checkpoint) for checkpoint in found}
    values = {
        checkpoint: its["objective"]
        for checkpoint, its in about.items()
        # values of different metrics do not compare
        if all(its[key] == about[found[-1]][key] for key in ("metric", "goal"))
        and its["objective"] is not None
    }
    is_highest_best = any(about[checkpoint]["goal"] == "maximize" for checkpoint in values)
    ranked = sorted(values, key=lambda c: values[c], reverse=is_highest_best)
    return ranked + [checkpoint for checkpoint in reversed(found) if checkpoint not in values]


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
    if best := first_intact(best_first(complete_checkpoints(path)), warn=True):
        return best
    damages = list_damages(path)
    intact = "intact " if damages else ""
    expected = f"no {intact}checkpoint in it; expected runs/NAME or one checkpoint in it"
    raise UserError("\n".join([f"{given}: {expected}", *damages]))


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
