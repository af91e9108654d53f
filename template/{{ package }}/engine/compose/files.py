"""The YAML files of conf/, parsed: each key with its group, its value and its place."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from ..run_dir.paths import Loader

PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)

Key = tuple[str, ...]
"""A key's names, from the config's root."""


class Setting(NamedTuple):
    """A key or a section in a file of conf/."""

    key: Key
    node: yaml.Node
    place: str  # conf/training/default.yaml:23

    @property
    def text(self) -> str:
        """The value as written; empty for a section or a list."""
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""


class File(NamedTuple):
    """A file of conf/, parsed."""

    name: str  # conf/training/default.yaml
    group: Key  # the section of its keys: its folder, or its @package
    text: str
    settings: list[Setting]


def read_files(conf: Path) -> Iterator[File]:
    """Each YAML file. Invalid ones are left out: Hydra reports those that are used."""
    for file in sorted(conf.rglob("*.yaml")):
        name = file.relative_to(conf.parent).as_posix()
        group = file.parent.relative_to(conf).parts
        try:
            text = file.read_text("utf-8")
            tree = yaml.compose(text, Loader)
        except (UnicodeDecodeError, yaml.YAMLError):
            continue
        if header := PACKAGE.search(text):
            package = header[1].replace("_group_", ".".join(group))
            group = tuple(part for part in package.split(".") if part != "_global_")
        yield File(name, group, text, list(_settings(tree, group, name)))


def _settings(node: yaml.Node | None, key: Key, name: str) -> Iterator[Setting]:
    if isinstance(node, yaml.MappingNode):
        for part, value in node.value:
            here = (*key, str(part.value))
            yield Setting(here, value, f"{name}:{part.start_mark.line + 1}")
            yield from _settings(value, here, name)
