"""mode=explain: every value, where it comes from, and what it overrode. No torch here."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .aliases import ALIAS, split_override
from .checking import nearest
from .composing import leaves
from .errors import UserError
from .origins import COMMAND_LINE, layers, parsed_files, place_of, told

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass
class Setting:
    """One place that sets a key."""

    value: str
    place: str


@dataclass
class Entry:
    """A key, its value, and the places that set it, the one that counts last."""

    key: str
    value: Any
    raw: Any  # an interpolation as it is written
    history: list[Setting]

    @property
    def shown(self) -> str:
        """The value; of an interpolation, what is written and what it stands for."""
        return text(self.raw) if self.raw == self.value else f"{self.raw} = {text(self.value)}"


def explain(
    cfg: DictConfig, conf: Path, overrides: list[str], typed: dict[str, str], key: str | None
) -> None:
    """Print it: all of the config, a section of it, or one key's whole history, oldest first.

    Raises UserError for a key that is not there.
    """
    as_json = cfg.get("format") == "json"
    depth = None if as_json else 2  # each layer takes a composing; one key is told in full
    known = list(entries(cfg, conf, overrides, typed, key or "", depth))
    chosen = [e for e in known if not key or e.key == key or e.key.startswith(f"{key}.")]
    if not chosen:
        keys = [entry.key for entry in known]
        sections = {k.rpartition(".")[0] for k in keys} - {""}
        near = nearest(str(key), [*keys, *sections])
        raise UserError(f"key = {key}: no such key in this config{near}")
    if as_json:
        rows = {
            e.key: {
                "value": e.value,
                "written": e.raw,
                "history": [{"value": s.value, "from": s.place} for s in e.history],
            }
            for e in chosen
        }
        print(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
    elif len(chosen) == 1 and chosen[0].key == key:
        print(*_history(chosen[0]), sep="\n")
    else:
        print(*_tree(chosen), sep="\n")


def entries(
    cfg: DictConfig,
    conf: Path,
    overrides: list[str],
    typed: dict[str, str],
    key: str = "",
    depth: int | None = None,
) -> Iterator[Entry]:
    """Every key of a composed config, with the last `depth` places that set it, or all.

    Those of `key` are all of them, and exact even where one file serves two keys.
    """
    values = _file_values(conf)
    found = list(islice(layers(conf, overrides), depth))
    for path, raw in leaves(OmegaConf.to_container(cfg, resolve=False)):
        mine = layers(conf, overrides, only=path) if path == key else found
        places = dict.fromkeys(layer[path] for layer in mine if path in layer)
        history = []
        for place in reversed(list(places)):
            if place.startswith(COMMAND_LINE):
                override = overrides[int(place.removeprefix(COMMAND_LINE))]
                value = split_override(override)[2][1:]
            else:
                value = values.get(place, "")
            history.append(Setting(value, told(place, overrides, typed)))
        yield Entry(path, _resolved(cfg, path, raw), raw, history)


def _resolved(cfg: DictConfig, path: str, raw: Any) -> Any:
    try:
        value = OmegaConf.select(cfg, path)
    except OmegaConfBaseException as error:
        return f"nothing ({str(error).splitlines()[0]})"
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _file_values(conf: Path) -> dict[str, str]:
    """What stands at each place of the files: {"conf/config.yaml:12:7": "train"}."""
    found: dict[str, str] = {}

    def visit(node: yaml.Node | None, name: str, text: str) -> None:
        if isinstance(node, yaml.MappingNode) and node.value:
            for _, value in node.value:
                visit(value, name, text)
        elif node is not None:
            written = text[node.start_mark.index : node.end_mark.index]
            found[place_of(node, name)] = written.rstrip()

    for name, (text, tree) in parsed_files(conf).items():
        visit(tree, name, text)
    return found


def _history(entry: Entry) -> Iterator[str]:
    yield f"{entry.key} = {entry.shown}"
    width = max((len(setting.value) for setting in entry.history), default=0)
    for setting in entry.history:
        yield f"  {setting.value:{width}}  {setting.place}"


def _tree(entries: list[Entry]) -> Iterator[str]:
    lines: list[tuple[str, str]] = []
    open_sections: list[str] = []
    for entry in entries:
        *sections, last = entry.key.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != open_sections[: depth + 1]:
                lines.append(("  " * depth + section, ""))
        open_sections = sections
        *before, now = entry.history or [Setting("", "")]
        origin = now.place + (", an alias" if ALIAS.fullmatch(str(entry.raw)) else "")
        over = "".join(f", over {s.place} ({s.value})" for s in reversed(before))
        lines.append(("  " * len(sections) + f"{last}: {entry.shown}", origin + over))
    width = min(48, max(len(left) for left, _ in lines))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for left, right in lines:
        if right and colour:
            right = f"{DIM}{right}{PLAIN}"
        yield f"{left:{width}}  {right}".rstrip()


def text(value: Any) -> str:
    """As YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
