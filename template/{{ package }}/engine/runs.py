"""Run directories: their names, what they record, and which checkpoint is meant. No torch here."""

import hashlib
import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from .aliases import split_override
from .errors import UserError

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
MANIFEST = "checkpoint.json"  # the last file that a checkpoint gets
CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"  # .hydra has one too, but of the last command, accepted or not
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


def job_name(overrides: ListConfig, _root_: DictConfig) -> str:
    """A sweep job's directory: its own overrides, whatever their order, never its number."""
    leaves = Counter(_leaf_names(_root_))
    parts = []
    for override in sorted(overrides, key=lambda o: split_override(o)[1]):
        prefix, key, value = split_override(override)
        if key not in NOT_IN_A_NAME:
            last = key.rpartition(".")[2]
            short = last if leaves[last] == 1 else key
            parts.append(prefix.replace("+", "") + short + _canonical(value))
    name = ",".join(parts) or "defaults"
    readable = re.sub(r"[^\w.,=+-]", "_", name)
    if readable == name and len(name) <= LONGEST_NAME:
        return name
    return f"{readable[:LONGEST_NAME]},{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _leaf_names(cfg: DictConfig) -> Iterator[str]:
    for key in map(str, cfg):
        if key == "hydra" or OmegaConf.is_interpolation(cfg, key) or OmegaConf.is_missing(cfg, key):
            continue
        if isinstance(cfg[key], DictConfig):
            yield from _leaf_names(cfg[key])
        else:
            yield key


def _canonical(value: str) -> str:
    # 3e-4 and 0.0003 are one job
    try:
        return f"={float(value[1:])}" if re.search(r"[.eE]", value) else value
    except ValueError:
        return value


def run_of(path: Path) -> Path | None:
    """The run directory that is meant: runs/NAME itself, or the one that holds this checkpoint."""
    for run in (path, path.parent.parent):
        if (run / OVERRIDES).is_file() and (run / CHECKPOINTS).is_dir():
            return run
    return None


def find_checkpoint(path: Path, key: str = "checkpoint") -> Path:
    """The checkpoint that a path means: itself or, of a run, the best, else the newest.

    Raises UserError that names the config's key.
    """
    given = f"{key} = {path}"
    if (path / MANIFEST).is_file():
        if damage := damage_of(path):
            raise UserError(f"{given}: damaged, {damage}; expected another checkpoint of the run")
        return path
    if not path.exists():
        raise UserError(f"{given}: no such file or directory; expected runs/NAME")
    if jobs := sorted(p.parent for p in path.glob(f"*/{CHECKPOINTS}")):
        shown = "\n".join(f"""'{key}="{job}"'""" for job in jobs[:10])
        raise UserError(f"{given}: a sweep, give one of its jobs:\n{shown}")
    found = list_checkpoints(path)
    if not found:
        raise UserError(f"{given}: no checkpoint in it; expected runs/NAME or one checkpoint in it")
    # only values of one metric compare: that of the newest checkpoint
    about = {checkpoint: read_manifest(checkpoint) for checkpoint in found}
    metric, goal = (about[found[-1]][key] for key in ("metric", "goal"))
    values = {
        checkpoint: manifest["objective"]
        for checkpoint, manifest in about.items()
        if (manifest["metric"], manifest["goal"]) == (metric, goal)
        and manifest["objective"] is not None
    }
    best = min if goal == "minimize" else max
    return best(values, key=lambda c: values[c]) if values else found[-1]


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first; a damaged one is named and left out."""
    sound = []
    for path in sorted(file.parent for file in (run / CHECKPOINTS).glob(f"[!.]*/{MANIFEST}")):
        if damage := damage_of(path):
            log.warning("%s is damaged and left out: %s", path, damage)
        else:
            sound.append(path)
    return sound


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, as far as their sizes tell."""
    try:
        sizes = {name: file["bytes"] for name, file in read_manifest(checkpoint)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
    return None


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """What checkpoint.json says."""
    manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
    return manifest


def recorded_overrides(run: Path, given: list[str]) -> list[str]:
    """The model and data choices of the run's own command line that are not given anew."""
    recorded: list[str] = _read_yaml(run / OVERRIDES) or []
    keys = {split_override(override)[1] for override in given}
    kept = []
    for override in recorded:
        key = split_override(override)[1]
        group = re.split(r"[./@]", key)[0]
        if group in REPLAYED and key not in keys and group not in keys:
            kept.append(override)
    return kept


def differences(then: dict[str, Any], now: dict[str, Any], path: str = "") -> list[str]:
    """Lines `key: then …, now …` for all that differs between two configs."""
    lines = []
    for key in then.keys() | now.keys():
        old, new = then.get(key, "(not there)"), now.get(key, "(not there)")
        name = f"{path}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{name}.")
        elif old != new:
            lines.append(f"{name}: then {old}, now {new}")
    return sorted(lines)


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config that the run began with; only ever compared, never run."""
    return _read_yaml(run / CONFIG) or {}


def _read_yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text("utf-8")) if file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{file}: damaged, no longer the YAML that the run wrote") from None


def write_record(values: dict[str, Any], run: Path) -> None:
    """Keep the resolved config and the command line of a run that has been accepted."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (run / CONFIG).write_text(text, "utf-8")
    shutil.copy(run / ".hydra" / OVERRIDES, run / OVERRIDES)


def check_resume(cfg: "Config", run: Path) -> None:
    """Whether this config may go on in this directory. Raises UserError where it may not."""
    if not list_checkpoints(run) or cfg.resume == "force":
        return
    if cfg.resume == "never":
        raise UserError(
            f"{run} has checkpoints, and resume=never\n"
            "give another name, or resume=auto to continue from them"
        )
    from .schema import harmless_keys  # pydantic: --help and --cfg need not wait for it

    harmless = harmless_keys(cfg)
    if cfg.training.optim.scheduler.name == "constant":
        harmless.add("training.run.iter_num")
    then, now = read_config(run), cfg.model_dump()
    if not then:
        raise UserError(
            f"{run / CONFIG} is missing: nothing tells what the checkpoints there have learned\n"
            "give another name, or resume=force to continue with the values of now"
        )
    changed = [
        line
        for line in differences(then, now)
        if not any(line.startswith((f"{key}:", f"{key}.")) for key in harmless)
    ]
    if changed:
        listed = "\n".join(changed)
        raise UserError(
            f"{run} was trained with another config:\n{listed}\n"
            "give another name, or resume=force to continue with the values of now"
        )
