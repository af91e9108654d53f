# Kept by the template; an update merges what you change here.
"""Where a value comes from: compose again from copies of the files that hold places, not values.

Hydra does all the merging, so the answer follows its rules whatever the defaults lists say.
"""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from .aliases import LOADER, split_override
from .composing import compose, is_group

COMMAND_LINE = "override "
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def origins(conf: Path, overrides: list[str], typed: dict[str, str]) -> dict[str, str]:
    """The place of every leaf: {"training.optim.lr": "conf/training/default.yaml:23"}.

    `typed` gives an expanded override as the user wrote it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in conf.rglob("*.yaml"):
            copy = Path(folder) / file.relative_to(conf)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_places(file, conf), "utf-8")
        marked = [_mark(conf, override, i) for i, override in enumerate(overrides)]
        cfg = compose(Path(folder), marked)
    flat: dict[str, str] = {}
    _flatten(OmegaConf.to_container(cfg, resolve=False), "", flat)
    for key, place in flat.items():
        if place.startswith(COMMAND_LINE):
            override = overrides[int(place.removeprefix(COMMAND_LINE))]
            flat[key] = f"the command line: {typed.get(override, override)}"
    return flat


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
    prefix, key, value = split_override(override)
    if prefix == "~" or is_group(conf, key) or key.startswith("hydra.") or not value:
        return override
    return f"++{key}='{COMMAND_LINE}{index}'"


def _places(file: Path, conf: Path) -> str:
    text = file.read_text("utf-8")
    name = str(file.relative_to(conf.parent))
    node = yaml.compose(text, Loader=LOADER)
    if node is None or name.startswith(f"{conf.name}/hydra/"):
        return text
    header = "".join(line + "\n" for line in text.splitlines() if line.startswith("# @package"))
    return header + yaml.dump(_place(node, name, top=True), Dumper=DUMPER, sort_keys=False)


def _place(node: yaml.Node, name: str, top: bool = False) -> Any:
    if isinstance(node, yaml.MappingNode):
        placed = {}
        for key, value in node.value:
            keep = top and key.value in ("defaults", "hydra")
            placed[key.value] = _plain(value) if keep else _place(value, name)
        return placed
    return f"{name}:{node.start_mark.line + 1}"


def _plain(node: yaml.Node) -> Any:
    return yaml.load(yaml.serialize(node, Dumper=DUMPER), Loader=LOADER)


def _flatten(value: Any, path: str, flat: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _flatten(child, f"{path}.{key}" if path else str(key), flat)
    else:
        flat[path] = str(value)
