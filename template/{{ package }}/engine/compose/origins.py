"""Where a value comes from: compose again from copies of the files that hold places, not values.

Hydra does all the merging, so the answer follows its rules whatever the defaults lists say.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ..overrides import split_override
from ..types import leaves
from .compose import compose, sets_value
from .files import File, read_files

COMMAND_LINE = "override "


def origins(conf: Path, overrides: list[str], spelling: dict[str, str]) -> dict[str, str]:
    """The place of every leaf: {"training.optim.lr": "conf/training/default.yaml:23"}.

    `spelling` gives an expanded override as the user typed it.
    """
    places = next(layers(conf, overrides))
    return {key: format_place(place, overrides, spelling) for key, place in places.items()}


def layers(conf: Path, overrides: list[str], only: str = "") -> Iterator[dict[str, str]]:
    """The place of every leaf, then of what it has overridden, and so on down to the first.

    Composes once for each, without the places of those before; with `only`, without those of that
    key, which is exact where one file serves two keys. Raises as compose does, at the first.
    """
    spent: set[str] = set()
    files = {file.name: file for file in read_files(conf)}
    changed = set(files)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            for name in changed:
                copy = Path(folder, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(_places(files[name], spent), "utf-8")
            marked = [_mark(conf, o, i) for i, o in enumerate(overrides)]
            kept = [o for o in marked if o.rpartition("=")[2].strip("'") not in spent]
            placed = OmegaConf.to_container(compose(Path(folder, conf.name), kept), resolve=False)
            flat = {key: str(place) for key, place in leaves(placed) if place != {}}
            yield flat
            new = {place for key, place in flat.items() if only in ("", key)} - spent
            if not new:
                return
            spent |= new
            changed = files.keys() & {place.partition(":")[0] for place in new}


def place_of(node: yaml.Node, name: str) -> str:
    """Where it stands in the file of this name; the column tells leaves of one line apart."""
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def format_place(place: str, overrides: list[str], spelling: dict[str, str]) -> str:
    """A place as people read it."""
    if not place.startswith(COMMAND_LINE):
        return place.rpartition(":")[0]  # the line is enough
    override = overrides[int(place.removeprefix(COMMAND_LINE))]
    return f"the command line: {spelling.get(override, override)}"


def origin(key: str, places: dict[str, str]) -> str | None:
    """The place of a key or, if it has none of its own, of the nearest section above it."""
    key = key.partition("[")[0]
    while key:
        if key in places:
            return places[key]
        inside = [place for k, place in places.items() if k.startswith(key + ".")]
        if inside:
            return inside[0].rsplit(":", 1)[0]
        key = key.rpartition(".")[0]
    return None


def _mark(conf: Path, override: str, index: int) -> str:
    # an element of a list, betas.0, is a change of the list
    key = re.sub(r"(\.\d+|\[\d+\])+$", "", split_override(override)[1])
    return f"++{key}='{COMMAND_LINE}{index}'" if sets_value(conf, override) else override


def _places(file: File, without: set[str]) -> str:
    """The text of a file with places for values; Hydra's own files stay as they are."""
    if file.tree is None or file.name.split("/")[1] == "hydra":
        return file.text
    lines = file.text.splitlines(keepends=True)
    header = "".join(line for line in lines if line.startswith("# @package"))
    placed = _place(file.tree, file.name, without, top=True)
    return header + json.dumps(placed, ensure_ascii=False, default=str)  # which is YAML


def _place(node: yaml.Node, name: str, without: set[str], top: bool = False) -> Any:
    """file:line:column in place of each leaf; nothing in place of those that are left out."""
    if not isinstance(node, yaml.MappingNode) or not (node.value or top):
        place = place_of(node, name)
        return None if place in without else place
    plain = yaml.SafeLoader("").construct_document
    placed = {}
    for key, value in node.value:
        keep = top and key.value in ("defaults", "hydra")
        inside = plain(value) if keep else _place(value, name, without)
        if inside is not None:
            placed[key.value] = inside
    return placed
