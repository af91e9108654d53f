"""Flat aliases: training.lr=3e-4 becomes training.optim.lr=3e-4 before Hydra sees it.

An alias is a top-level key of a group's file whose whole value is a relative interpolation with one
leading dot and two or more names, such as `lr: ${.optim.lr}`. OmegaConf alone would replace the
alias and leave the key that the code reads as it was.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..overrides import split_override
from .files import Key, Setting, read_files
from .names import renames

ALIAS = re.compile(r"\$\{\.(\w+(?:\.\w+)+)\}")
FROM_ROOT = re.compile(r"\$\{(\w+)((?:\.\w+)+)\}")
SPACE = "hydra.sweeper.params"


class Aliases:
    """The aliases that conf/ declares, and problems with the way its files use them."""

    def __init__(self, conf: Path) -> None:
        self.files = list(read_files(conf))
        self.declared: list[tuple[Setting, Key]] = []  # each with its target key
        self.targets: dict[str, str] = {}
        for file in self.files:
            for it in file.settings:
                alias = ALIAS.fullmatch(it.text)
                if alias and file.group and len(it.key) == len(file.group) + 1:
                    self.declared.append((it, (*file.group, *alias[1].split("."))))
                    self.targets.setdefault(".".join(it.key), ".".join((*file.group, alias[1])))
        self.renames = renames(conf)
        self.problems = [*self.renames.problems(), *self._misuses()]

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
                instead = "in YAML set" if key == name else "search over"
                yield f"{it.place}: {name} is an alias; {instead} {real} instead"
            elif wrong := FROM_ROOT.fullmatch(it.text) if len(it.key) == 2 else None:
                first, rest = wrong.groups()
                if (it.key[0], first) in sections and (first,) not in sections:
                    problem = f"{it.text} is read from the root of the config"
                    yield f"{it.place}: {key}: {problem}; write ${{.{first}{rest}}}"

    def expand(self, overrides: list[str]) -> list[str]:
        """The same overrides by new names and real keys; conflicts are added to `problems`."""
        expanded = []
        spellings: dict[str, dict[str, str]] = {}
        for override in overrides:
            _, spelling, _ = split_override(override)
            prefix, key, value = split_override(self.renames.override(override))
            real = self.targets.get(key, key)
            expanded.append(prefix + real + value)
            spellings.setdefault(real, {})[spelling] = f"{spelling}{value}"
            if key.startswith(SPACE):
                self.problems.append(f"{override}: give each key its values, as training.seed=1,2")
        self.problems += [
            f"{' and '.join(by_key.values())}: both set {real}; give one of the two"
            for real, by_key in spellings.items()
            if len(by_key) > 1
        ]
        return expanded
