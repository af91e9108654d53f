"""The YAML files of conf/, parsed: each key with its group, its value and its place."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

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


def read_files(conf: Path, pattern: str = "**/*.yaml") -> Iterator[File]:
    """Each YAML file. Invalid ones are left out: Hydra reports those that are used."""
    for file in sorted(conf.glob(pattern)):
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


def broken_files(conf: Path) -> Iterator[str]:
    """A line for each file that OmegaConf cannot read: Hydra's error does not name it."""
    for file in sorted(conf.rglob("*.yaml")):
        name = file.relative_to(conf.parent)
        try:
            OmegaConf.load(file)
        except (UnicodeDecodeError, RecursionError):
            yield f"{name}: not UTF-8 text, or nested too deeply"
        except OSError as error:
            yield f"{name}: {error.strerror or 'expected KEY: VALUE, not a value alone'}"
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            why = getattr(error, "problem", None) or str(error).splitlines()[0]
            lines = file.read_text("utf-8", errors="replace").splitlines()
            if conflict := [n for n, it in enumerate(lines, 1) if it.startswith("<<<<<<< ")]:
                place = f"{name}:{conflict[0]}"
                why = "<<<<<<< is a merge conflict of git; keep one of its two sides"
            yield f"{place}: not valid YAML: {why}"
