"""mode=explain: every value, where it comes from, and what it overrode. No torch here."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, nearest
from ..overrides import split_override
from ..types import as_yaml, leaves
from .aliases import ALIAS
from .files import read_files
from .origins import COMMAND_LINE, format_place, layers, place_of

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass
class Entry:
    """A key, its value, and what set it, the one that counts last."""

    key: str
    value: Any
    raw: Any  # an interpolation as it is written
    history: list[tuple[str, str]]  # value and place

    @property
    def shown(self) -> str:
        """The value; of an interpolation, what is written and what it stands for."""
        value = as_yaml(self.value)
        return value if self.raw == self.value else f"{self.raw} = {value}"


def explain(
    cfg: DictConfig, conf: Path, overrides: list[str], spelling: dict[str, str], key: str | None
) -> None:
    """Print it: all of the config, a section of it, or one key's whole history, oldest first.

    Raises UserError for a key that is not there.
    """
    as_json = cfg.get("format") == "json"
    depth = None if as_json else 2  # each layer takes a composing; one key is shown in full
    known = list(entries(cfg, conf, overrides, spelling, key or "", depth))
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
                "history": [{"value": value, "from": place} for value, place in e.history],
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
    spelling: dict[str, str],
    key: str = "",
    depth: int | None = None,
) -> Iterator[Entry]:
    """Every key of a composed config, with the last `depth` places that set it, or all.

    Those of `key` are all of them, and exact even where one file serves two keys.
    """
    values = {
        place_of(it.node, file.name): file.text[it.node.start_mark.index : it.node.end_mark.index]
        for file in read_files(conf)
        for it in file.settings
    }
    given = enumerate(overrides)
    values |= {f"{COMMAND_LINE}{i}": split_override(override)[2][1:] for i, override in given}
    found = list(islice(layers(conf, overrides), depth))
    for path, raw in leaves(OmegaConf.to_container(cfg, resolve=False)):
        mine = layers(conf, overrides, only=path) if path == key else found
        places = list(dict.fromkeys(layer[path] for layer in mine if path in layer))
        history = [
            (values.get(place, "").rstrip(), format_place(place, overrides, spelling))
            for place in reversed(places)
        ]
        yield Entry(path, _resolved(cfg, path, raw), raw, history)


def _resolved(cfg: DictConfig, path: str, raw: Any) -> Any:
    try:
        value = OmegaConf.select(cfg, path)
    except OmegaConfBaseException as error:
        return f"nothing ({str(error).splitlines()[0]})"
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _history(entry: Entry) -> Iterator[str]:
    yield f"{entry.key} = {entry.shown}"
    width = max((len(value) for value, _ in entry.history), default=0)
    for value, place in entry.history:
        yield f"  {value:{width}}  {place}"


def _tree(entries: list[Entry]) -> Iterator[str]:
    lines: list[tuple[str, str]] = []
    open_sections: list[str] = []
    for entry in entries:
        *sections, last = entry.key.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != open_sections[: depth + 1]:
                lines.append(("  " * depth + section, ""))
        open_sections = sections
        *before, (_, place) = entry.history or [("", "")]
        origin = place + (", an alias" if ALIAS.fullmatch(str(entry.raw)) else "")
        over = "".join(f", over {place} ({value})" for value, place in reversed(before))
        lines.append(("  " * len(sections) + f"{last}: {entry.shown}", origin + over))
    width = min(48, max(len(left) for left, _ in lines))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for left, right in lines:
        if right and colour:
            right = f"{DIM}{right}{PLAIN}"
        yield f"{left:{width}}  {right}".rstrip()
