"""mode=explain: every value, where it comes from, and what it overrode. No torch here."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, nearest
from ..types import as_yaml, leaves
from .aliases import ALIAS
from .origins import Origin, find_origins

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
SHOWN_WIDTH, SHOWN_OVERRIDDEN = 48, 1  # for all keys; a single key is shown in full


@dataclass
class Entry:
    """A key, its value, and what set it, oldest first."""

    key: str
    value: Any
    raw: Any  # as written, interpolations unresolved
    history: list[Origin]

    @property
    def shown(self) -> str:
        """The value; for an interpolation, its text and its value."""
        value = as_yaml(self.value)
        return value if self.raw == self.value else f"{self.raw} = {value}"


def explain(
    cfg: DictConfig, conf: Path, overrides: list[str], spelling: dict[str, str], key: str | None
) -> None:
    """Print all of the config, a section of it, or one key's whole history, oldest first.

    Raises UserError for an unknown key.
    """
    known = list(find_entries(cfg, conf, overrides, spelling))
    chosen = [e for e in known if not key or e.key == key or e.key.startswith(f"{key}.")]
    if not chosen:
        keys = [entry.key for entry in known]
        sections = {k.rpartition(".")[0] for k in keys} - {""}
        near = nearest(str(key), [*keys, *sections])
        raise UserError(f"key = {key}: no such key in this config{near}")
    if cfg.get("format") == "json":
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
        print(f"{key} = {chosen[0].shown}")
        width = max((len(value) for value, _ in chosen[0].history), default=0)
        for value, place in chosen[0].history:
            print(f"  {value:{width}}  {place}")
    else:
        print(*_tree(chosen), sep="\n")


def find_entries(
    cfg: DictConfig, conf: Path, overrides: list[str], spelling: dict[str, str]
) -> Iterator[Entry]:
    """Every key of a composed config."""
    origins = find_origins(conf, overrides, spelling)
    for path, raw in leaves(OmegaConf.to_container(cfg, resolve=False)):
        try:
            value = OmegaConf.select(cfg, path)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            value = f"nothing ({str(error).splitlines()[0]})"
        yield Entry(path, value, raw, origins.get(path, []))


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
        overridden = reversed(before[-SHOWN_OVERRIDDEN:])
        place += "".join(f", over {earlier} ({value})" for value, earlier in overridden)
        lines.append(("  " * len(sections) + f"{last}: {entry.shown}", place))
    width = min(SHOWN_WIDTH, max(len(left) for left, _ in lines))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for left, right in lines:
        right = f"{DIM}{right}{PLAIN}" if right and colour else right
        yield f"{left:{width}}  {right}".rstrip()
