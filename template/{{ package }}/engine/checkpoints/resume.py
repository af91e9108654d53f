"""Checks that a run may resume and that weights fit. Recorded configs are only compared."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import see
from ..compose.compose import is_group
from ..compose.names import renames
from ..config import Config, Split
from ..errors import UserError, refuse
from ..overrides import leaves, split_override
from ..project import Project
from ..run_dir.paths import OVERRIDES, read_config, read_overrides, read_record
from ..types import FIXED_ORDER, RESUME_SAFE, fields, groups, is_section, marked_keys
from .files import WEIGHTS, list_checkpoints, list_damages, newest_checkpoint, read_about

TRAINED_ON: tuple[Split, ...] = ("train", "valid")  # the splits that training reads
MOST_KEYS = 20
RESUMING = see("runs.md#resuming")


def described_groups(config: type[Config]) -> list[str]:
    """The groups that define the model and the data: all but training and ResumeSafe ones."""
    return [name for name in groups(config, but=RESUME_SAFE) if name != "training"]


def recorded_overrides(project: Project, run: Path, given: list[str]) -> list[str]:
    """The model and data overrides that a run recorded, without those that `given` replaces.

    They are untrusted: each must name an option in conf/ or a key of these groups.
    Raises UserError for others.
    """
    keys = {split_override(override)[1] for override in given}
    recorded = [
        override
        for override in _describing_overrides(project, read_overrides(run))
        if split_override(override)[1] not in keys and _group(override) not in keys
    ]
    refuse(
        f"{run / OVERRIDES}: it recorded {override}, which conf/ does not have\n"
        f"give another {_group(override)}=OPTION, or the keys that it set\n"
        + renames(project.conf).hint("".join(split_override(override)[1:]))
        for override in recorded
        if not _is_known(override, project)
    )
    return recorded


def _is_known(override: str, project: Project) -> bool:
    _, key, value = split_override(override)
    if not re.fullmatch(r"\w+([./]\w+)*", key):
        return False
    conf, known = project.conf, dict(fields(project.config))
    if not is_group(conf, key):
        parent = known.get(key.rpartition(".")[0])  # an entry of a free mapping is known
        return key in known or (parent is not None and not is_section(parent.annotation))
    group = conf / key.replace(".", "/")
    options = {file.relative_to(group).with_suffix("").as_posix() for file in group.rglob("*.yaml")}
    return value[1:].strip("'\"").removesuffix(".yaml") in {"null", *options}


def _describing_overrides(project: Project, overrides: list[str]) -> list[str]:
    renamed = map(renames(project.conf).override, overrides)
    return [o for o in renamed if _group(o) in (*described_groups(project.config), "experiment")]


def _group(override: str) -> str:
    return re.split(r"[./@]", split_override(override)[1])[0]


def check_resume(project: Project, cfg: Config, run: Path) -> None:
    """Check that this config may resume in this directory. Raises UserError if it may not."""
    found = list_checkpoints(run)
    if found and cfg.resume == "never":
        raise UserError(
            f"{run} has checkpoints, and resume=never\n"
            "give another name, or resume=auto to continue from them"
        )
    if not (newest := newest_checkpoint(run)):
        if found and cfg.resume == "auto":
            way_out = "give another name, or resume=force to start again and replace them"
            lines = [f"{run}: none of its checkpoints is intact", *list_damages(run), way_out]
            raise UserError("\n".join(lines) + RESUMING)
        return
    refuse(incompatibilities(project, cfg, newest, f"name = {cfg.name}"))
    then = renames(project.conf).to_compare(read_about(newest)["config"])
    changed = changed_training_keys(cfg, then, project.resume_safe(cfg))
    if cfg.resume == "auto" and changed:
        way_out = "give another name, or resume=force to continue with the new values" + RESUMING
        lines = _shorten(MOST_KEYS, [f"{run} was trained with another config:", *changed])
        lines += [renames(project.conf).hint(k) for k in then if renames(project.conf).is_gone(k)]
        raise UserError("\n".join([*lines, way_out]))


def resume_problems(project: Project, cfg: Config, run: Path) -> Iterator[str]:
    """Why a job of a sweep cannot resume in its directory; none if it has finished."""
    if (run.parent / OVERRIDES).is_file():
        yield f"name = {cfg.name}: {run.parent} is a single run; give the sweep another name"
    elif cfg.resume == "never" or not is_finished(project, cfg, run):
        try:
            check_resume(project, cfg, run)
        except UserError as error:
            yield from error.problems


def changed_training_keys(cfg: Config, then: dict[str, Any], safe: Iterable[str] = ()) -> list[str]:
    """Lines `key: then …, now …` for keys that a resumed run may not change unless forced."""
    left_out = tuple(k + end for k in (*marked_keys(cfg, RESUME_SAFE), *safe) for end in ":.")
    return [line for line in differences(then, cfg.model_dump()) if not line.startswith(left_out)]


def is_finished(project: Project, cfg: Config, run: Path) -> bool:
    """Whether the run in this directory has finished, with a config that trains the same."""
    record, now = read_record(run), cfg.training.run.model_dump()
    if record.get("state") != "finished":
        return False
    then, why = renames(project.conf).to_compare(read_config(run)), record.get("ended_by", "")
    is_longer = then.get(f"training.run.{why}") != now.get(why)  # with another max_minutes, say
    return not is_longer and not changed_training_keys(cfg, then)


def incompatibilities(project: Project, cfg: Config, checkpoint: Path, given: str) -> list[str]:
    """Why a checkpoint's weights do not fit the config's model, with the keys to change.

    Imports torch only where the model or the data differ from those of the checkpoint.
    """
    about = read_about(checkpoint)
    then = renames(project.conf).to_compare(about["config"])
    changed = _describing_changes(cfg, then)
    reordered = _reordered(then, cfg) if changed else []
    if not reordered and (not changed or _same_shapes(project, cfg, checkpoint)):
        return []
    what = "were trained with these in another order" if reordered else "do not fit this model"
    lines = [f"{given}: the weights in {checkpoint} {what}", *(reordered or changed)]
    recorded = _describing_overrides(project, about["overrides"])
    trained_with = " ".join(recorded) or "the defaults of model and data"
    return ["\n".join([*_shorten(9, lines), f"give what it was trained with: {trained_with}"])]


def _shorten(count: int, lines: list[str]) -> list[str]:
    more = len(lines) - count
    return [*lines[:count], f"… and {more} more keys"] if more > 0 else lines


def _reordered(then: dict[str, Any], cfg: Config) -> list[str]:
    """The differences in keys marked FixedOrder where some entry has moved."""
    lines = []
    for key in sorted(marked_keys(cfg, FIXED_ORDER)):
        old, new = (dict(leaves(values)).get(key, []) for values in (then, cfg.model_dump()))
        entries = enumerate(old if isinstance(old, type(new)) else [])
        if any(entry in new and new[i : i + 1] != old[i : i + 1] for i, entry in entries):
            lines.append(f"{key}: then {old}, now {new}")
    return lines


def meta_model(project: Project, cfg: Config) -> Any:
    """The config's model on the meta device, shapes alone. Imports torch."""
    import torch

    with torch.device("meta"):
        return project.build_model(cfg)


def _same_shapes(project: Project, cfg: Config, checkpoint: Path) -> bool:
    from safetensors import safe_open

    expected = {k: list(it.shape) for k, it in meta_model(project, cfg).state_dict().items()}
    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    # the file holds one of several tensors that share memory
    return all(expected.get(name) == shape for name, shape in found.items())


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lines `key: then …, now …` for each key that differs between two configs."""
    old, new = dict(leaves(then)), dict(leaves(now))
    pairs = {key: [values.get(key, "(missing)") for values in (old, new)] for key in old | new}
    return sorted(f"{key}: then {a}, now {b}" for key, (a, b) in pairs.items() if a != b)


def unlike_the_run(project: Project, cfg: Config, run: Path | None) -> list[str]:
    """Lines `key: then …, now …` for keys of the model and the data that differ from the run's."""
    then = renames(project.conf).to_compare(read_config(run)) if run else {}
    return _describing_changes(cfg, then) if then else []


def _describing_changes(cfg: Config, then: dict[str, Any]) -> list[str]:
    now = cfg.model_dump(include=set(described_groups(type(cfg))))
    return differences({k: value for k, value in then.items() if k.split(".")[0] in now}, now)
