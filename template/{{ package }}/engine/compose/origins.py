"""The origins of values: what set each key, in the order in which Hydra merges."""

import re
from pathlib import Path
from typing import NamedTuple

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ..overrides import split_override
from .compose import initialized_hydra, sets_value
from .files import read_files


class Origin(NamedTuple):
    """A file or an override that sets a key."""

    value: str  # as written
    place: str  # conf/training/default.yaml:23, or the command line: training.lr=3e-4


def find_origins(
    conf: Path, overrides: list[str], spelling: dict[str, str]
) -> dict[str, list[Origin]]:
    """What sets each key; the last origin counts. Raises what Hydra raises.

    `spelling` maps an expanded override to what the user typed.
    """
    with initialized_hydra(conf):
        loader = GlobalHydra.instance().config_loader()
        merged = loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults
    files = {file.name: file for file in read_files(conf)}
    found: dict[str, list[Origin]] = {}
    for default in merged:
        if not (file := files.get(f"{conf.name}/{default.config_path}.yaml")):
            continue  # one of Hydra's own
        for it in file.settings:
            is_section = isinstance(it.node, yaml.MappingNode) and it.node.value
            key = ".".join([default.package or "", *it.key[len(file.group) :]]).strip(".")
            if is_section or key.split(".")[0] in ("defaults", "hydra"):
                continue
            text = file.text[it.node.start_mark.index : it.node.end_mark.index].rstrip()
            found.setdefault(key, []).append(Origin(text, it.place))
    for override in overrides:
        if sets_value(conf, override):
            _, key, value = split_override(override)
            key = re.sub(r"(\.\d+|\[\d+\])+$", "", key)  # betas.0 changes the list
            place = f"the command line: {spelling.get(override, override)}"
            found.setdefault(key, []).append(Origin(value[1:], place))
    return found


def nearest_place(key: str, origins: dict[str, list[Origin]]) -> str | None:
    """The place of a key or, if it has none of its own, of the nearest section above it."""
    key = key.partition("[")[0]
    while key:
        inside = [found for it, found in origins.items() if f"{it}.".startswith(f"{key}.")]
        if key in origins or inside:
            return origins.get(key, inside[0] if inside else [])[-1].place
        key = key.rpartition(".")[0]
    return None
