"""New names of keys, values and options: conf/renamed.yaml, and the template's own renamed.yaml.

Command lines, the files of conf/ and what runs recorded are read with the new names.
"""

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from ..errors import nearest
from ..overrides import canonical, split_override
from ..run_dir.paths import Loader
from ..types import as_yaml, leaves
from .files import Setting, broken_files, read_files

RENAMED = "renamed.yaml"
ENGINE = Path(__file__).parents[1]
OLD_NAMES = ("experiment", "local", RENAMED)  # where old names may stand
SHAPE = "expected lines OLD: NEW below a VERSION:"
_print_once = functools.cache(functools.partial(print, file=sys.stderr))


class Renames:
    """The lines `OLD: NEW` of both files; OLD is a key, a section, KEY=VALUE or GROUP=OPTION."""

    def __init__(self, conf: Path) -> None:
        self.conf, self.own = conf, list(read_files(conf, RENAMED))
        files = [*read_files(ENGINE, RENAMED), *self.own]
        lines = (it for file in files for it in file.settings if len(it.key) == 2)
        self.lines = {_normal(it.key[1]): it for it in lines}

    def names(self, key: str, value: str = "", is_printed: bool = True) -> tuple[str, str]:
        """The new names of a key and of its value, both as text; prints each line that applies."""
        for _ in self.lines:  # none applies twice
            parts = key.split(".")
            sections = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            olds = [_normal(f"{key}={value}"), *sections]
            if not (old := next((it for it in olds if it in self.lines), "")):
                break
            line = self.lines[old]
            new = _normal(line.text)
            key, value = (key, new) if "=" in old else (new + key[len(old) :], value)
            if is_printed:
                _print_once(f"{line.place}: {old} is now {new}, since {line.key[0]}")
        return key, value

    def entry(self, key: str, value: Any) -> tuple[str, Any]:
        """A key and its value by their new names."""
        text = as_yaml(value)
        name, new = self.names(key, text)
        return name, value if new == text else yaml.load(new, Loader)

    def to_compare(self, config: dict[str, Any]) -> dict[str, Any]:
        """The values of a recorded config, each by the whole new name of its key."""
        return dict(self.entry(*leaf) for leaf in leaves(config))

    def override(self, override: str) -> str:
        """An override by the new names, whether it has one value, `a,b` or `choice(a,b)`."""
        prefix, key, value = split_override(override)
        dotted = key.replace("/", ".")

        def rename(match: re.Match[str]) -> str:
            text = match[0].strip("'\" ")
            return match[0].replace(text, self.names(dotted, text)[1])

        if (name := self.names(dotted)[0]) != dotted:
            key = name.replace(".", "/") if "/" in key else name
        return prefix + key + re.sub(r"[^=,()]+", rename, value)

    def content(self, config: Any, package: str) -> Any:
        """The content of a file by the new names; `package` is the prefix of its keys."""
        content: Any = OmegaConf.to_container(config, resolve=False)
        moved = {key: (package + key, value) for key, value in leaves(content)}
        moved = {k: new for k, old in moved.items() if (new := self.entry(*old)) != old}
        if not moved:
            return config
        for key in moved:
            _remove(content, key.split("."))
        renamed = OmegaConf.create(content)
        for name, value in moved.values():
            OmegaConf.update(renamed, name.removeprefix(package), value, force_add=True)
        return renamed

    def path(self, config: str) -> str:
        """The path of a file in conf/, such as model/tiny, by the new name of the option."""
        group, slash, option = config.rpartition("/")
        return self.override(f"{group}={option}").replace("=", "/") if slash else config

    def problems(self) -> Iterator[str]:
        """Wrong lines of conf/renamed.yaml."""
        if (self.conf / RENAMED).is_file() and not self.own:
            yield from (it for it in broken_files(self.conf) if f"/{RENAMED}" in it)
        for file in self.own:
            if not file.settings and yaml.load(file.text, Loader):
                yield f"{file.name}: {SHAPE}"
            for it in file.settings:
                if isinstance(it.node, yaml.MappingNode) != (len(it.key) == 1):
                    yield f"{it.place}: {it.key[-1]}: {SHAPE}"
                elif len(it.key) == 2 and (why := self._problem(it)):
                    yield f"{it.place}: {it.key[1]}: {it.text}: {why}"

    def _problem(self, it: Setting) -> str:
        old, known = _normal(it.key[1]), known_names(self.conf)
        key, equals, value = old.partition("=")
        name, new = self.names(key, value, is_printed=False)
        if (name, new) == (key, value) or self.names(name, new, False) != (name, new):
            return "the names lead in a circle"
        is_option = equals and (self.conf / name.replace(".", "/")).is_dir()
        if (found := f"{name}={new}" if is_option else name) not in known:
            return f"conf/ has no {found}{nearest(found, [*known])}"
        if old in known:
            return f"conf/ still has {old}; rename or remove it there"
        return "" if self.lines[old] is it else f"{self.lines[old].place} renames it too"

    def is_gone(self, key: str) -> bool:
        """Whether conf/ no longer has a key, not even as an entry of a list or a free mapping."""
        known, key = known_names(self.conf), key.replace("/", ".")
        section = key.rpartition(".")[0]
        is_closed = section not in known or any(it.startswith(f"{section}.") for it in known)
        return key not in known and is_closed

    def hint(self, old: str) -> str:
        """The line that would map an old key, or the option of an old override."""
        key = old.partition("=")[0]
        old = old if (self.conf / key.replace(".", "/")).is_dir() else key
        return f"if it has another name now, conf/{RENAMED} needs, below VERSION:\n{old}: NEW_NAME"


@functools.cache
def renames(conf: Path) -> Renames:
    """The renames of a project, read once."""
    return Renames(conf)


@functools.cache
def known_names(conf: Path) -> set[str]:
    """The keys, sections and groups of conf/, and its options as model=tiny."""
    known = set()
    for file in read_files(conf):
        group, _, option = file.name.removeprefix(f"{conf.name}/").rpartition("/")
        known |= {group.replace("/", "."), _normal(f"{group}={option.removesuffix('.yaml')}")}
        if file.name.split("/")[1] not in OLD_NAMES:
            keys = [it.key[:n] for it in file.settings for n in range(1, len(it.key) + 1)]
            known |= {".".join(key) for key in keys}
    return known - {""}


class FileConfigSource(file_config_source.FileConfigSource):
    """Reads conf/ by the new names. Hydra knows the class by its name."""

    def is_config(self, config_path: str) -> bool:
        """Called by Hydra."""
        return super().is_config(renames(Path(self.path)).path(config_path))

    def load_config(self, config_path: str) -> ConfigResult:
        """Called by Hydra."""
        names = renames(Path(self.path))
        path = names.path(config_path)
        found = super().load_config(path)
        package = found.header.get("package") or "_group_"
        package = package.replace("_group_", path.rpartition("/")[0].replace("/", "."))
        prefix = "" if package in ("", "_global_") else f"{package}."
        found.config = names.content(found.config, prefix)
        return found


# not register(): it keeps the class that is there
SourcesRegistry.instance().types["file"] = FileConfigSource


def _normal(name: str) -> str:
    key, equals, value = name.partition("=")
    return key.replace("/", ".") + canonical(equals + value)


def _remove(node: dict[str, Any], key: list[str]) -> None:
    """Delete a key, and sections that are empty without it."""
    if key[1:]:
        _remove(node[key[0]], key[1:])
    if not key[1:] or not node[key[0]]:
        del node[key[0]]
