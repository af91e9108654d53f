"""What a checkpoint's directory says of itself, and which checkpoint is meant. No torch here."""

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

from .errors import UserError

log = logging.getLogger(__name__)

FORMAT = 1
CHECKPOINTS = "checkpoints"
MANIFEST = "checkpoint.json"  # the last file that a checkpoint gets

Goal = Literal["minimize", "maximize"]


def goal_of(metric: str) -> Goal:
    """Which way it is better; one that checks.py no longer has counts as a loss."""
    from ..checks import METRICS  # --help need not wait for what it imports

    return METRICS.get(metric, "minimize")


@dataclass
class Progress:
    """How far a run has come. A checkpoint's manifest holds it, for people to read."""

    iteration: int
    evaluated: int  # the iteration of the last evaluation
    best: float | None  # the best objective so far
    stale: int  # evaluations since then
    skipped: int  # iterations left out in a row, with training.run.on_nonfinite=skip


@dataclass
class _Manifest:
    progress: Progress
    metric: str
    goal: Goal
    objective: float | None
    overrides: list[str]
    config: dict[str, Any]
    identity: dict[str, str]
    data: dict[str, tuple[str, str, str, str] | None]
    files: dict[Literal["weights.safetensors", "state.pt"], dict[str, int | str]]


def write_manifest(checkpoint: Path, about: dict[str, Any]) -> None:
    """Put a manifest in its place in one step, so that a kill leaves the old or the new one."""
    beside = checkpoint / f".{MANIFEST}"
    beside.write_text(_sealed(about), "utf-8")
    sync(beside)
    beside.replace(checkpoint / MANIFEST)
    sync(checkpoint)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """What checkpoint.json says. Raises ValueError if it is damaged, UserError if it is newer."""
    text = (checkpoint / MANIFEST).read_text("utf-8")
    about: dict[str, Any] = parse_json(text, dict[str, Any])
    if _sealed(about) != text:
        raise ValueError
    if about.get("format") != FORMAT:
        raise UserError(
            f"{checkpoint}: has format {about.get('format')}, and this code reads format {FORMAT}\n"
            "it was written by another version of the template: copier update may bring it"
        )
    parse_json(text, _Manifest)
    return about


def parse_json(text: str, kind: Any) -> Any:
    """The value of a text that anyone may have written. Raises ValueError for another kind."""
    from pydantic import TypeAdapter  # --help need not wait for it
    from pydantic_core import from_json

    TypeAdapter(kind).validate_json(text, strict=True)
    return from_json(text)  # unlike Python's own it limits how deep brackets nest


def _sealed(about: dict[str, Any]) -> str:
    rest = {key: value for key, value in about.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, "sha256": digest}, indent=2, ensure_ascii=False) + "\n"


def damage_of(checkpoint: Path, thorough: bool = True) -> str | None:
    """What is wrong with a checkpoint's files; unless `thorough`, only sizes are compared."""
    try:
        for name, written in read_manifest(checkpoint)["files"].items():
            file = checkpoint / name
            if (size := file.stat().st_size) != written.get("bytes"):
                return f"{name} has {size} bytes, not {written.get('bytes')}"
            if thorough and fingerprint(file) != written:
                return f"{name} has another checksum than when it was written"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror}"
    except ValueError:
        return f"{MANIFEST} is not as it was written"
    return None


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first. Copies under other names are somebody's own."""
    found = [file.parent for file in (run / CHECKPOINTS).glob(f"iteration-*/{MANIFEST}")]
    return sorted(path for path in found if not _is_copy(path))


def _is_copy(checkpoint: Path) -> bool:
    with suppress(ValueError, OSError):  # damaged
        iteration = read_manifest(checkpoint)["progress"]["iteration"]
        return checkpoint.name != f"iteration-{iteration:09d}"
    return False


def complete_checkpoints(run: Path) -> list[Path]:
    """Those whose manifest holds and whose files have the right size: quick, for large ones."""
    return [c for c in list_checkpoints(run) if damage_of(c, thorough=False) is None]


def first_sound(candidates: Iterable[Path], tell: bool = False) -> Path | None:
    """The first of these checkpoints that is not damaged; warn of those before it."""
    for checkpoint in candidates:
        damage = damage_of(checkpoint)
        if not damage:
            return checkpoint
        if tell:
            log.warning("%s is damaged and left out: %s", checkpoint, damage)
    return None


def newest_checkpoint(run: Path, tell: bool = False) -> Path | None:
    """The newest sound checkpoint of a run, from which it goes on; warn of damaged ones."""
    return first_sound(reversed(list_checkpoints(run)), tell)


def list_damages(run: Path) -> list[str]:
    """A line for each damaged checkpoint of a run."""
    found = {checkpoint: damage_of(checkpoint) for checkpoint in list_checkpoints(run)}
    return [f"{checkpoint} is damaged: {damage}" for checkpoint, damage in found.items() if damage]


def best_first(found: list[Path]) -> list[Path]:
    """Of checkpoints, oldest first: by the objective of the newest, then those without a value."""
    about = {checkpoint: read_manifest(checkpoint) for checkpoint in found}
    values = {
        checkpoint: manifest["objective"]
        for checkpoint, manifest in about.items()
        # only values of one metric compare
        if all(manifest[key] == about[found[-1]][key] for key in ("metric", "goal"))
        and manifest["objective"] is not None
    }
    is_highest_best = any(about[checkpoint]["goal"] == "maximize" for checkpoint in values)
    ranked = sorted(values, key=lambda c: values[c], reverse=is_highest_best)
    return ranked + [checkpoint for checkpoint in reversed(found) if checkpoint not in values]


def find_checkpoint(path: Path, key: str = "checkpoint") -> Path:
    """The checkpoint at a path or the best one of the run there; UserErrors name the `key`."""
    given = f"{key} = {path}"
    path = path.parent if path.name == CHECKPOINTS else path
    if (path / MANIFEST).is_file():
        if damage := damage_of(path):
            raise UserError(f"{given}: damaged, {damage}; expected another checkpoint of the run")
        return path
    if not path.exists():
        raise UserError(f"{given}: no such file or directory; expected runs/NAME")
    if jobs := sorted(p.parent for p in path.glob(f"*/{CHECKPOINTS}")):
        shown = [f"""'{key}="{job}"'""" for job in jobs[:10]] + ["…"] * (len(jobs) > 10)
        raise UserError("\n".join([f"{given}: several runs are in it, give one:", *shown]))
    if best := first_sound(best_first(complete_checkpoints(path)), tell=True):
        return best
    damages = list_damages(path)
    sound = "sound " if damages else ""
    expected = f"no {sound}checkpoint in it; expected runs/NAME or one checkpoint in it"
    raise UserError("\n".join([f"{given}: {expected}", *damages]))


def fingerprint(file: Path) -> dict[str, Any]:
    """A file's size and checksum."""
    status = file.stat()
    return {"bytes": status.st_size, "sha256": _digest(file, status.st_size, status.st_mtime_ns)}


@functools.lru_cache(maxsize=64)  # the checks before a run and the run itself ask for the same
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
