"""Flat aliases: training.lr=3e-4 becomes training.optim.lr=3e-4 before Hydra sees it.

An alias is a top-level key of a group's file whose whole value is a relative interpolation with one
leading dot and two or more names, such as `lr: ${.optim.lr}`. OmegaConf alone would replace the
alias and leave the key that the code reads as it was.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

ALIAS = re.compile(r"\$\{\.(\w+(?:\.\w+)+)\}")
FROM_ROOT = re.compile(r"\$\{(\w+)((?:\.\w+)+)\}")
PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)
SPACE = "hydra.sweeper.params"
DEEPEST = 100
INDENT = re.compile(r"^[-?: ]{400}", re.MULTILINE)

Key = tuple[str, ...]  # a key's names, from the config's root


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """In C, ten times as fast; but it crashes on what is nested very deeply."""

    def __init__(self, text: str) -> None:
        steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
        if max(itertools.accumulate(steps), default=0) > DEEPEST or INDENT.search(text):
            raise yaml.YAMLError(f"nested more than {DEEPEST} deep")
        super().__init__(text)


class Setting(NamedTuple):
    """A key in a file of conf/, a section's too."""

    key: Key
    node: yaml.Node
    place: str  # conf/training/default.yaml:23

    @property
    def text(self) -> str:
        """What the value is written as; nothing for a section or a list."""
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""


class File(NamedTuple):
    """A file of conf/, parsed."""

    name: str  # conf/training/default.yaml
    group: Key  # where its keys stand, whatever its folder
    text: str
    tree: yaml.Node | None
    settings: list[Setting]


def read_files(conf: Path) -> Iterator[File]:
    """Each YAML file. Broken ones are left out: Hydra reports one that is used."""
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
        yield File(name, group, text, tree, list(_settings(tree, group, name)))


def _settings(node: yaml.Node | None, key: Key, name: str) -> Iterator[Setting]:
    if isinstance(node, yaml.MappingNode):
        for part, value in node.value:
            here = (*key, str(part.value))
            yield Setting(here, value, f"{name}:{part.start_mark.line + 1}")
            yield from _settings(value, here, name)


class Aliases:
    """The aliases that conf/ declares, and what is wrong with the way its files use them."""

    def __init__(self, conf: Path) -> None:
        self.files = list(read_files(conf))
        self.declared: list[tuple[Setting, Key]] = []  # each with the key that it leads to
        self.targets: dict[str, str] = {}
        for file in self.files:
            for it in file.settings:
                alias = ALIAS.fullmatch(it.text)
                if alias and file.group and len(it.key) == len(file.group) + 1:
                    self.declared.append((it, (*file.group, *alias[1].split("."))))
                    self.targets.setdefault(".".join(it.key), ".".join((*file.group, alias[1])))
        self.problems = list(self._misuses())

    def _misuses(self) -> Iterator[str]:
        every = [it for file in self.files for it in file.settings]
        sections = {it.key[:-1] for it in every}
        for it in every:
            key = ".".join(it.key)
            name = key.removeprefix(SPACE + ".")
            real, alias = self.targets.get(name), ALIAS.fullmatch(it.text)
            if real and alias and key == name:
                if ".".join((*it.key[:-1], alias[1])) != real:
                    yield f"{it.place}: {key} is already an alias of {real}"
            elif real:
                say = "in YAML set" if key == name else "search over"
                yield f"{it.place}: {name} is an alias; {say} {real} instead"
            elif wrong := FROM_ROOT.fullmatch(it.text) if len(it.key) == 2 else None:
                first, rest = wrong.groups()
                if (it.key[0], first) in sections and (first,) not in sections:
                    says = f"{it.text} is read from the root of the config"
                    yield f"{it.place}: {key}: {says}; write ${{.{first}{rest}}}"

    def expand(self, overrides: list[str]) -> list[str]:
        """The same overrides by their real keys; conflicting ones are added to `problems`."""
        expanded = []
        spellings: dict[str, dict[str, str]] = {}
        for override in overrides:
            prefix, key, value = split_override(override)
            real = self.targets.get(key, key)
            expanded.append(prefix + real + value)
            spellings.setdefault(real, {})[key] = f"{key}{value}"
            if key.startswith(SPACE):
                self.problems += [
                    f"{override}: {alias} is an alias; search over {target} instead"
                    for alias, target in self.targets.items()
                    if re.search(rf"(?<![\w.]){re.escape(alias)}(?![\w.])", key + value)
                ]
        self.problems += [
            f"{' and '.join(by_key.values())}: one is an alias of {real}; give one of the two"
            for real, by_key in spellings.items()
            if len(by_key) > 1
        ]
        return expanded


def split_override(override: str) -> tuple[str, str, str]:
    """`+training.lr=1` to ("+", "training.lr", "=1")."""
    match = re.fullmatch(r"(\+\+|\+|~)?([^=]*)(=.*)?", override, re.DOTALL)
    assert match
    return match[1] or "", match[2], match[3] or ""
