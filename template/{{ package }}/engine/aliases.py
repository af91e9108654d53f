"""Flat aliases: training.lr=3e-4 becomes training.optim.lr=3e-4 before Hydra sees it.

An alias is a top-level key of a group's file whose whole value is a relative interpolation with one
leading dot and two or more names, such as `lr: ${.optim.lr}`. OmegaConf alone would replace the
alias and leave the key that the code reads as it was.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

ALIAS = re.compile(r"\$\{\.(\w+(?:\.\w+)+)\}")
FROM_ROOT = re.compile(r"\$\{(\w+)((?:\.\w+)+)\}")
PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)
SPACE = "hydra.sweeper.params"
DEEPEST = 100
INDENT = re.compile(r"^[-?: ]{400}", re.MULTILINE)

Leaf = tuple[tuple[str, ...], yaml.Node, int]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """In C, ten times as fast; but it crashes on what is nested very deeply."""

    def __init__(self, text: str) -> None:
        steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
        if max(itertools.accumulate(steps), default=0) > DEEPEST or INDENT.search(text):
            raise yaml.YAMLError(f"nested more than {DEEPEST} deep")
        super().__init__(text)


LOADER = _Loader


class Aliases:
    """The aliases that conf/ declares, and what is wrong with the way its files use them."""

    def __init__(self, conf: Path) -> None:
        self.targets: dict[str, str] = {}
        self.problems: list[str] = []
        files = list(read_files(conf))
        sections = {path[:-1] for _, _, leaves in files for path, _, _ in leaves}
        for _, group, leaves in files:
            for path, value, _ in leaves:
                alias = ALIAS.fullmatch(text_of(value))
                if alias and group and len(path) == len(group) + 1:
                    self.targets.setdefault(".".join(path), ".".join((*group, alias[1])))
        for file, _, leaves in files:
            place = file.relative_to(conf.parent)
            for path, value, line in leaves:
                self._check(f"{place}:{line}", path, text_of(value), sections)

    def _check(
        self, place: str, path: tuple[str, ...], text: str, sections: set[tuple[str, ...]]
    ) -> None:
        key = ".".join(path)
        name = key.removeprefix(SPACE + ".")
        if real := self.targets.get(name):
            alias = ALIAS.fullmatch(text)
            if not alias or key != name:
                say = f"search over {real}" if key != name else f"in YAML set {real}"
                self.problems.append(f"{place}: {name} is an alias; {say} instead")
            elif ".".join((*path[:-1], alias[1])) != real:
                self.problems.append(f"{place}: {key} is already an alias of {real}")
        elif len(path) == 2 and (wrong := FROM_ROOT.fullmatch(text)):
            group, first = path[0], wrong[1]
            in_group = any(section[:2] == (group, first) for section in sections)
            if in_group and not any(section[:1] == (first,) for section in sections):
                self.problems.append(
                    f"{place}: {key}: {text} is read from the root of the config; "
                    f"write ${{.{first}{wrong[2]}}}"
                )

    def expand(self, overrides: list[str]) -> list[str]:
        """The same overrides by their real keys; conflicting ones are added to `problems`."""
        expanded = []
        spellings: dict[str, dict[str, str]] = {}
        for override in overrides:
            prefix, key, value = split_override(override)
            real = self.targets.get(key, key)
            expanded.append(prefix + real + value)
            spellings.setdefault(real, {})[key] = value[1:]
            if key.startswith(SPACE):
                self.problems += [
                    f"{override}: {alias} is an alias; search over {target} instead"
                    for alias, target in self.targets.items()
                    if re.search(rf"(?<![\w.]){re.escape(alias)}(?![\w.])", key + value)
                ]
        for real, by_key in spellings.items():
            if len(by_key) > 1 and len({repr(read_value(text)) for text in by_key.values()}) > 1:
                given = " and ".join(f"{key}={text}" for key, text in by_key.items())
                alias = next(key for key in by_key if key != real)
                self.problems.append(f"{given}: {alias} is an alias of {real}; give one of the two")
        return expanded


def split_override(override: str) -> tuple[str, str, str]:
    """`+training.lr=1` to ("+", "training.lr", "=1")."""
    match = re.fullmatch(r"(\+\+|\+|~)?([^=]*)(=.*)?", override, re.DOTALL)
    assert match
    return match[1] or "", match[2], match[3] or ""


def read_value(text: str) -> object:
    """What Hydra makes of the text of a value."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text


def text_of(node: yaml.Node) -> str:
    """What a value is written as; nothing for a section or a list."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def read_files(conf: Path) -> Iterator[tuple[Path, tuple[str, ...], list[Leaf]]]:
    """Each YAML file with its group and its keys as (path from the config's root, value, line)."""
    for file in sorted(conf.rglob("*.yaml")):
        text = file.read_text("utf-8", errors="replace")
        group = file.parent.relative_to(conf).parts
        if header := PACKAGE.search(text):
            name = header[1].replace("_group_", ".".join(group))
            group = tuple(part for part in name.split(".") if part != "_global_")
        try:
            node = yaml.compose(text, Loader=LOADER)
        except yaml.YAMLError:
            continue  # Hydra tells it, if the file is used
        yield file, group, list(_leaves(node, group))


def _leaves(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[Leaf]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, value, key.start_mark.line + 1
            yield from _leaves(value, here)
