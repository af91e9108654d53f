"""The origin of every value, for mode=explain and for error messages. No torch here."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, nearest
from ..overrides import as_yaml, leaves, split_override
from ..terminal import print_json
from .aliases import ALIAS
from .compose import initialized_hydra, sets_value
from .files import read_files
from .names import renames

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
SHOWN_WIDTH = 48  # of the widest first column


class Origin(NamedTuple):
    """A file or an override that sets a key."""

    value: str  # as written
    place: str  # conf/training/default.yaml:23, or the command line: training.lr=3e-4


def find_origins(
    conf: Path, overrides: list[str], spelling: dict[str, str]
) -> dict[str, list[Origin]]:
    """What sets each key; the last origin counts. Raises what Hydra raises."""
    with initialized_hydra(conf):
        loader = GlobalHydra.instance().config_loader()
        merged = loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults
    files = {file.name: file for file in read_files(conf)}
    found: dict[str, list[Origin]] = {}
    for default in merged:
        path = renames(conf).path(str(default.config_path))
        if not (file := files.get(f"{conf.name}/{path}.yaml")):
            continue  # one of Hydra's own
        for it in file.settings:
            is_section = isinstance(it.node, yaml.MappingNode) and it.node.value
            key = ".".join([default.package or "", *it.key[len(file.group) :]]).strip(".")
            key = renames(conf).override(key)
            if is_section or key.split(".")[0] == "defaults":
                continue
            text = file.text[it.node.start_mark.index : it.node.end_mark.index].rstrip()
            found.setdefault(key, []).append(Origin(text, it.place))
    for override in overrides:
        if sets_value(conf, override):
            key = re.sub(r"(\.\d+|\[\d+\])+$", "", split_override(override)[1])  # betas.0 is betas
            found.setdefault(key, []).append(by_override(override, spelling))
    return found


def by_override(override: str, spelling: dict[str, str]) -> Origin:
    """An override as the origin of its key."""
    value, place = split_override(override)[2][1:], spelling.get(override, override)
    return Origin(value, f"the command line: {place}")


def nearest_origin(key: str, origins: dict[str, list[Origin]]) -> Origin | None:
    """The origin of a key or, if it has none of its own, of the nearest section above it."""
    key = key.partition("[")[0]
    while key:
        inside = [it for it in origins if it.startswith(f"{key}.")]
        if key in origins or inside:
            return origins[key if key in origins else inside[0]][-1]
        key = key.rpartition(".")[0]
    return None


class Entry(NamedTuple):
    """A key, its value, and what set it, oldest first."""

    key: str
    value: Any
    raw: Any  # as written, interpolations unresolved
    shown: str  # the value; for an interpolation, its text and its value
    history: list[Origin]


def explain(cfg: DictConfig, origins: dict[str, list[Origin]], key: str | None) -> None:
    """Print the config, a section or a key's history. Raises UserError for an unknown key."""
    known = list(find_entries(cfg, origins))
    chosen = [e for e in known if not key or e.key == key or e.key.startswith(f"{key}.")]
    if not chosen:
        keys = [entry.key for entry in known]
        sections = {k.rpartition(".")[0] for k in keys} - {""}
        near = nearest(str(key), [*keys, *sections])
        raise UserError(f"key = {key}: no such key in this config{near}")
    if cfg.get("format") == "json":
        rows = {}
        for e in chosen:
            history = [{"value": value, "from": place} for value, place in e.history]
            rows[e.key] = {"value": e.value, "written": e.raw, "history": history}
        print_json(rows)
    elif len(chosen) == 1 and chosen[0].key == key:
        print(f"{key} = {chosen[0].shown}")
        width = max((len(value) for value, _ in chosen[0].history), default=0)
        for value, place in chosen[0].history:
            print(f"  {value:{width}}  {place}")
    else:
        print(*_tree(chosen), sep="\n")


def find_entries(cfg: DictConfig, origins: dict[str, list[Origin]]) -> Iterator[Entry]:
    """Every key of a composed config."""
    for path, raw in leaves(OmegaConf.to_container(cfg, resolve=False)):
        try:
            value = OmegaConf.select(cfg, path)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            value = f"nothing ({str(error).splitlines()[0]})"
        shown = as_yaml(value) if raw == value else f"{raw} = {as_yaml(value)}"
        yield Entry(path, value, raw, shown, origins.get(path, []))


def _tree(entries: list[Entry]) -> Iterator[str]:
    lines: list[tuple[str, str]] = []
    open_sections: list[str] = []
    for entry in entries:
        *sections, last = entry.key.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != open_sections[: depth + 1]:
                lines.append(("  " * depth + section, ""))
        open_sections = sections
        *before, (_, place) = entry.history or [Origin("", "")]
        place += ", an alias" if ALIAS.fullmatch(str(entry.raw)) else ""
        place += "".join(f", over {earlier} ({value})" for value, earlier in before[-1:])
        lines.append(("  " * len(sections) + f"{last}: {entry.shown}", place))
    width = min(SHOWN_WIDTH, max(len(left) for left, _ in lines))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for left, right in lines:
        right = f"{DIM}{right}{PLAIN}" if right and colour else right
        yield f"{left:{width}}  {right}".rstrip()
