"""Whether a checkpoint may be continued, and whether it fits. Configs are only ever compared."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..config import Config
from . import runs
from .aliases import split_override
from .composing import CONF, is_group, leaves
from .errors import UserError, refuse
from .manifest import list_checkpoints, list_damages, newest_checkpoint, read_manifest
from .schema import HARMLESS, NUMBERED, groups, marked_keys

# training says how something was learned; the other groups say what, and from which data
DESCRIBING = [name for name in groups(Config, but=HARMLESS) if name != "training"]


def recorded_overrides(run: Path, given: list[str], conf: Path = CONF) -> list[str]:
    """The choices of model, data and the like on the run's own command line, unless given anew.

    They may be a stranger's: options are names of files in conf/, values are keys of these groups.
    Raises UserError for others.
    """
    keys = {split_override(override)[1] for override in given}
    recorded = [
        override
        for override in _describing(runs.overrides(run))
        if split_override(override)[1] not in keys and _group(override) not in keys
    ]
    refuse(
        f"{run / runs.OVERRIDES}: it recorded {override}, which conf/ does not have\n"
        f"give another {_group(override)}=OPTION, or the keys that it set"
        for override in recorded
        if not _is_known(override, conf)
    )
    return recorded


def _is_known(override: str, conf: Path) -> bool:
    _, key, value = split_override(override)
    if not re.fullmatch(r"\w+([./]\w+)*", key):
        return False
    if not is_group(conf, key):
        return True
    group = conf / key.replace(".", "/")
    options = {file.relative_to(group).with_suffix("").as_posix() for file in group.rglob("*.yaml")}
    return value[1:].strip("'\"").removesuffix(".yaml") in {"null", *options}


def _describing(overrides: list[str]) -> list[str]:
    return [o for o in overrides if _group(o) in (*DESCRIBING, "experiment")]


def _group(override: str) -> str:
    return re.split(r"[./@]", split_override(override)[1])[0]


TRAINED_ON = ("train", "valid")  # the splits that training reads


def check_resume(cfg: Config, run: Path) -> None:
    """Whether this config may go on in this directory. Raises UserError where it may not."""
    found = list_checkpoints(run)
    if found and cfg.resume == "never":
        raise UserError(
            f"{run} has checkpoints, and resume=never\n"
            "give another name, or resume=auto to continue from them"
        )
    newest = newest_checkpoint(run)
    if found and not newest and cfg.resume == "auto":
        way_on = "give another name, or resume=force to begin again and replace them"
        none = f"{run}: none of its checkpoints is sound"
        raise UserError("\n".join([none, *list_damages(run), way_on]))
    if not newest:
        return
    refuse(misfit(cfg, newest, f"name = {cfg.name}"))
    # at a constant rate a run of more iterations begins as a shorter one does
    constant = cfg.training.optim.scheduler.name == "constant"
    longer = {"training.run.iter_num"} if constant else set()
    changed = what_learns_differently(cfg, read_manifest(newest)["config"], longer)
    if cfg.resume == "auto" and changed:
        why = f" (the {cfg.training.optim.scheduler.name} schedule depends on it)"
        listed = [line + why * line.startswith("training.run.iter_num:") for line in changed]
        way_on = "give another name, or resume=force to continue with the values of now"
        lines = _at_most(20, [f"{run} was trained with another config:", *listed])
        raise UserError("\n".join([*lines, way_on]))


def resume_problems(cfg: Config, run: Path) -> list[str]:
    """What keeps a job of a sweep from going on in its directory, unless it is finished."""
    if (run.parent / runs.OVERRIDES).is_file():
        return [f"name = {cfg.name}: {run.parent} is a single run; give the sweep another name"]
    if not list_checkpoints(run) or (cfg.resume != "never" and is_finished(cfg, run)):
        return []
    try:
        check_resume(cfg, run)
    except UserError as error:
        return list(error.problems)
    return []


def what_learns_differently(
    cfg: Config, then: dict[str, Any], except_for: Collection[str] = ()
) -> list[str]:
    """Lines `key: then …, now …` for what a resumed run may not change unless it is forced."""
    harmless = tuple(k + end for k in (*marked_keys(cfg, HARMLESS), *except_for) for end in ":.")
    return [line for line in differences(then, cfg.model_dump()) if not line.startswith(harmless)]


def is_finished(cfg: Config, run: Path) -> bool:
    """Whether a run of this directory came to its end, and learned what it would learn now."""
    finished = runs.read_record(run).get("state") == "finished"
    return finished and not what_learns_differently(cfg, runs.read_config(run))


def misfit(cfg: Config, checkpoint: Path, given: str) -> list[str]:
    """Why a checkpoint's weights do not fit the config's model, if so, with the keys to change.

    Imports torch only where the model or the data differ from those of the checkpoint.
    """
    about = read_manifest(checkpoint)
    changed = _compare_describing(cfg, about["config"])
    moved = _compare_places(about["config"], cfg) if changed else []
    if not moved and (not changed or _same_shapes(cfg, checkpoint)):
        return []
    what = "know these by another order" if moved else "do not fit this model"
    lines = _at_most(9, [f"{given}: the weights in {checkpoint} {what}", *(moved or changed)])
    recorded = " ".join(_describing(about["overrides"])) or "the defaults of model and data"
    return ["\n".join([*lines, f"give what it was trained with: {recorded}"])]


def _at_most(count: int, lines: list[str]) -> list[str]:
    more = len(lines) - count
    return [*lines[:count], f"… and {more} more keys"] if more > 0 else lines


def _compare_places(then: dict[str, Any], cfg: Config) -> list[str]:
    """The differences in keys marked Numbered, some entry of which has another place now."""
    lines = []
    for key in sorted(marked_keys(cfg, NUMBERED)):
        old, new = (dict(leaves(values)).get(key, []) for values in (then, cfg.model_dump()))
        places = enumerate(old if isinstance(old, type(new)) else [])
        if any(entry in new and new[i : i + 1] != old[i : i + 1] for i, entry in places):
            lines.append(f"{key}: then {old}, now {new}")
    return lines


def weights_without_memory(cfg: Config) -> dict[str, Any]:
    """The tensors of the config's model, shapes alone. Imports torch."""
    import torch

    from ..model import build_model

    with torch.device("meta"):
        return build_model(cfg).state_dict()


def _same_shapes(cfg: Config, checkpoint: Path) -> bool:
    from safetensors import safe_open

    from .checkpoints import WEIGHTS

    expected = {name: list(value.shape) for name, value in weights_without_memory(cfg).items()}
    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    # of tensors that share memory, a file holds one
    return all(expected.get(name) == shape for name, shape in found.items())


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lines `key: then …, now …` for all that differs between two configs."""
    old, new = dict(leaves(then)), dict(leaves(now))
    pairs = {key: [values.get(key, "(not there)") for values in (old, new)] for key in old | new}
    return sorted(f"{key}: then {a}, now {b}" for key, (a, b) in pairs.items() if a != b)


def unlike_the_run(cfg: Config, run: Path | None) -> list[str]:
    """What of the model, the data and other such groups is not as it was in the run."""
    then = runs.read_config(run) if run else {}
    return _compare_describing(cfg, then) if then else []


def _compare_describing(cfg: Config, then: dict[str, Any]) -> list[str]:
    now = cfg.model_dump(include=set(DESCRIBING))
    return differences({key: value for key, value in then.items() if key in now}, now)
