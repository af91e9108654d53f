"""From a composed config to a typed one, with every problem told at once."""

import contextlib
import copy
import difflib
import functools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml.error import YAMLError

from ..config import Config
from . import credentials
from .aliases import ALIAS, read_value, split_override
from .composing import compose, gives_a_value, is_group, leaves
from .errors import UserError
from .origins import origin, origins
from .runs import shorter
from .schema import text_keys

NEED_A_HEADER = ("experiment", "local")
HEADER = """a file of this group sets keys of others, so its first line is
# @package _global_
saved as UTF-8, without a byte order mark (BOM)"""
PLAIN = {"bool_type": "true or false", "model_type": "a section, with keys of its own"}
MEANT = {"on": "true", "yes": "true", "off": "false", "no": "false", "none": "null"}

Problem = tuple[str, str]  # key, what is wrong with it
Bases = dict[tuple[str, ...], DictConfig]  # what files compose to, by the groups' choices


def typed(cfg: DictConfig) -> Config:
    """The typed config. Raises UserError with what is wrong, without places."""
    config, problems = _validate(cfg)
    if config is None:
        raise UserError(*(f"{key}: {text}" for key, text in problems))
    return config


def keep_text(overrides: list[str]) -> list[str]:
    """The same overrides, but a key whose type is text keeps what was typed: `name=1e5` as well."""
    texts = text_keys(Config)
    return [_quote_numbers(o) if split_override(o)[1] in texts else o for o in overrides]


def _quote_numbers(override: str) -> str:
    prefix, key, value = split_override(override)
    if not re.fullmatch(r"=[\w.,+-]+", value):
        return override
    parts = value[1:].split(",")
    kept = [f"'{part}'" if isinstance(read_value(part), int | float) else part for part in parts]
    return f"{prefix}{key}={','.join(kept)}"


class Checker:
    """Checks the jobs of one command line against conf/."""

    def __init__(self, conf: Path, typed: dict[str, str], space: Collection[str] = ()) -> None:
        """`typed` gives an expanded override as the user wrote it; `space` are a search's keys."""
        self.conf = conf
        self.typed = typed
        self.space = space
        self.bases: Bases = {}

    def check(self, overrides: list[str], one_of_many: bool = False) -> Config:
        """Compose and validate one job. Raises UserError with every problem and its place."""
        try:
            if one_of_many:
                cfg = quickly(self.conf, overrides, self.bases)
            else:
                cfg = compose(self.conf, overrides)
        except UserError:
            raise
        except Exception as error:
            self._explain(error, overrides)
        config, problems = _validate(cfg)
        if config is None:
            raise UserError(*self._told(problems, overrides))
        return config

    def _explain(self, error: Exception, overrides: list[str]) -> NoReturn:
        """Hydra stops at the first problem; find the others. Raises UserError."""
        told, kept = [], []
        for override in overrides:
            if problem := self._group_problem(override):
                told.append(problem)
            else:
                kept.append(self.forced(override))
        with contextlib.suppress(Exception):
            _, problems = _validate(compose(self.conf, kept))
            told += self._told(problems, kept)
        raise UserError(*(told or [self._blamed(overrides) + composing_problem(error, self.conf)]))

    def _blamed(self, overrides: list[str]) -> str:
        """The override without which the others compose."""
        for i, override in enumerate(overrides):
            with contextlib.suppress(Exception):
                compose(self.conf, overrides[:i] + overrides[i + 1 :])
                return f"{override}: "
        return ""

    def _group_problem(self, override: str) -> str | None:
        prefix, key, value = split_override(override)
        if prefix == "~" or not is_group(self.conf, key):
            return None
        if prefix:
            with contextlib.suppress(Exception):
                compose(self.conf, [key + value])
                return f"{override}: {key} has a default, which + cannot replace; type {key}{value}"
        group = self.conf / key.split("@")[0].replace(".", "/")
        chosen = value[1:].strip("'\"").removesuffix(".yaml")
        is_basic = (key, chosen) == ("hydra/launcher", "basic")  # Hydra's own
        if is_basic or (group / f"{chosen}.yaml").is_file() or value[1:2] in ("[", "{"):
            return None
        return f"{override}: no such option of the group {key}\n{_options(group, chosen)}"

    def forced(self, override: str) -> str:
        """The override with which Hydra accepts a key that is not there."""
        _, key, value = split_override(override)
        if not gives_a_value(self.conf, override):
            return override
        self.typed.setdefault("++" + key + value, self.typed.get(override, override))
        return "++" + key + value

    def _told(self, problems: list[Problem], overrides: list[str]) -> Iterator[str]:
        @functools.cache
        def places() -> dict[str, str]:
            try:
                return origins(self.conf, overrides, self.typed)
            except Exception:  # a place is a service, never a reason to hide the problem
                return {}

        # an override of the key itself has the last word; anything else takes a second composing
        given = {split_override(o)[1]: self.typed.get(o, o) for o in overrides}
        for key, text in problems:
            if key in self.space:
                place: str | None = "the search space, hydra.sweeper.params"
            elif key in given:
                place = f"the command line: {given[key]}"
            else:
                place = origin(key, places())
            yield f"{key}{text}" + (f"\nfrom {place}{self._variables(place)}" if place else "")

    def _variables(self, place: str) -> str:
        """The environment's variables that a line of conf/ reads, where they are set."""
        file, _, line = place.rpartition(":")
        if not line.isdigit():
            return ""
        text = (self.conf.parent / file).read_text("utf-8").splitlines()[int(line) - 1]
        return "".join(
            f", the environment's {name}={value}"
            for name in re.findall(r"oc\.env:(\w+)", text)
            if (value := os.environ.get(name)) and not credentials.is_credential(name, value)
        )


def quickly(
    conf: Path, overrides: list[str], bases: Bases, own_section: bool = False
) -> DictConfig:
    """The same config, but files are composed once for each combination of groups, into `bases`.

    Composing takes some 50 ms, setting values hardly any.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [o for o in parsed if is_plain_value(o) and not is_group(conf, o.key_or_group)]
    rest = tuple(o.input_line or "" for o in parsed if o not in values)
    if rest not in bases:
        bases[rest] = compose(conf, list(rest), own_section)
    cfg = copy.deepcopy(bases[rest])
    for override in values:
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
    return cfg


def _options(group: Path, chosen: str) -> str:
    """What a group has in place of an option that is not there."""
    if (other := group / f"{chosen}.yml").exists():
        return f"Hydra reads files that end in .yaml: rename {shorter(other)}"
    options = sorted(path.stem for path in group.glob("*.yaml"))
    return f"expected one of {', '.join(options)}{nearest(chosen, options)}"


def is_plain_value(override: Override) -> bool:
    """`training.optim.lr=1`: neither a sweep, nor adding or deleting, nor for Hydra itself."""
    is_ours = not override.key_or_group.startswith(("hydra.", "hydra/"))
    return override.type == OverrideType.CHANGE and is_ours and not override.is_sweep_override()


def _validate(cfg: DictConfig) -> tuple[Config | None, list[Problem]]:
    problems: list[Problem] = []
    values = resolved(cfg, "", problems)
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    both = [*leaves(written), *leaves(values)]
    if secret := dict.fromkeys(key for key, value in both if credentials.is_credential(key, value)):
        return None, [(key, credentials.REFUSED) for key in secret]
    problems += [
        (key, f" = {value}: write ${{oc.env:HOME}}{value[1:]}")
        for key, value in leaves(values)
        if isinstance(value, str) and value.startswith("~/")
    ]
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        broken = {key for key, _ in problems}
        details = error.errors()
        missing = [_locate(d["loc"], values)[0] for d in details if d["type"] == "missing"]
        extra = [_locate(d["loc"], values)[0] for d in details if d["type"] == "extra_forbidden"]
        known = _known_keys(cfg, values, tuple(".".join(keys) + "." for keys in extra))
        others = [_describe(d, values, known) for d in details if d["type"] != "missing"]
        problems += _missing([keys for keys in missing if ".".join(keys) not in broken])
        problems += [problem for problem in others if problem[0] not in broken]
    return (None if problems else config), problems


def _known_keys(cfg: DictConfig, values: dict[str, Any], extra: tuple[str, ...]) -> dict[str, str]:
    """The keys that are not `extra`, each with its flat alias, else with itself."""
    raw = leaves(OmegaConf.to_container(cfg, resolve=False))
    found = [(name, ALIAS.fullmatch(str(text))) for name, text in raw]
    aliases = {f"{name.split('.')[0]}.{match[1]}": name for name, match in found if match}
    keys = [key for key, _ in leaves(values) if not f"{key}.".startswith(extra)]
    return {key: aliases.get(key, key) for key in keys}


def resolved(node: DictConfig, path: str, problems: list[Problem]) -> dict[str, Any]:
    """Plain values, without the aliases; interpolations that lead nowhere become problems."""
    values = {}
    unresolved: Any = OmegaConf.to_container(node, resolve=False)
    for key, raw in unresolved.items():
        here = f"{path}{key}"
        if path.count(".") == 1 and isinstance(raw, str) and ALIAS.fullmatch(raw):
            continue
        if OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
            if isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            problems.append((here, f" = {raw}: {str(error).splitlines()[0]}"))
            continue
        if isinstance(value, DictConfig):
            value = resolved(value, here + ".", problems)
        values[str(key)] = value
    return values


def _locate(location: tuple[int | str, ...], values: dict[str, Any]) -> tuple[list[str], Any]:
    """The keys that lead to where pydantic found an error, and the value there."""
    keys: list[str] = []
    value: Any = values
    for part in location:
        if isinstance(value, dict) and part == value.get("kind") and part not in value:
            continue  # the name of the chosen schema, which is no key
        if isinstance(part, int):
            keys[-1] += f"[{part}]"
        else:
            keys.append(str(part))
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return keys, value


def _describe(detail: Any, values: dict[str, Any], known: dict[str, str]) -> Problem:
    """A pydantic error as the key and what is wrong with it."""
    keys, value = _locate(detail["loc"], values)
    context = detail.get("ctx", {})
    change = ""
    if detail["type"] == "conflict":
        section = "".join(f"{key}." for key in keys)
        keys += str(context["key"]).split(".")
        named = [section + name for name in re.findall(r"([\w.]+) \(", context["expected"])]
        if both := [known[key] for key in (".".join(keys), *named) if key in known][1:]:
            change = f"\nchange one: {known['.'.join(keys)]}=… or {both[0]}=…"
        value = OmegaConf.select(OmegaConf.create(values), ".".join(keys))
    key = ".".join(keys)
    if key in NEED_A_HEADER:
        return key, f" = {_show(value)}: {HEADER}"
    if detail["type"] == "extra_forbidden":
        while isinstance(value, dict) and len(value) == 1:  # nix.lr=1 makes a section nix
            ((last, value),) = value.items()
            keys.append(str(last))
        return ".".join(keys), f" = {_show(value)}: no such key" + _suggest(keys, known)
    if detail["type"].startswith("union_tag"):
        tag = value.get("kind") if isinstance(value, dict) else None
        expected = context.get("expected_tags", "the name of one of its schemas")
        return f"{key}.kind", f" = {_show(tag)}: expected {expected}"
    message = PLAIN.get(detail["type"], str(detail["msg"]))
    for prefix in ("Input should be ", "Value error, ", "Assertion failed, "):
        message = message.removeprefix(prefix)
    said = "none" if value is False and detail["type"] == "model_type" else str(value).lower()
    if said in MEANT and (said == "none") == (detail["type"] != "bool_type"):
        message += f"; did you mean {MEANT[said]}?"
    return key, f" = {_show(value)}: expected {message}{change}"


def _missing(paths: list[list[str]]) -> Iterator[Problem]:
    """Keys without a value, one problem per group, with the lines to add."""
    groups: dict[str, Any] = {}
    for *sections, last in paths:
        node = groups
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = "…"
    for group, missing in groups.items():
        if isinstance(missing, str):
            yield group, f": no value; conf/config.yaml needs\n{group}: …"
        else:
            lines = OmegaConf.to_yaml(missing).rstrip()
            yield group, f": no value for some keys; extend a file that has them, or add\n{lines}"


def _suggest(keys: list[str], known: dict[str, str]) -> str:
    """The keys that may be meant; else those that the section has."""
    *parents, last = keys
    section, given = "".join(f"{key}." for key in parents), ".".join(keys)
    inside = [key.removeprefix(section) for key in known if key.startswith(section)]
    siblings = list(dict.fromkeys(key.split(".")[0] for key in inside))
    near = [section + key for key in difflib.get_close_matches(last, siblings, 1)]
    meant = [key for key in known if key.endswith(f".{given}")]
    meant = meant or [key for key in known if key.rpartition(".")[2] == last] or near
    if meant := meant or difflib.get_close_matches(given, known, 1, 0.8):
        alias = known.get(meant[0], meant[0])
        short = f" ({alias} for short)" if alias != meant[0] else ""
        return f"; did you mean {' or '.join(meant[:3])}?{short}"
    return f"; {'.'.join(parents) or 'the config'} has: {', '.join(siblings)}"


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean …?`, where there is anything like it."""
    near = difflib.get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _show(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def composing_problem(error: Exception, conf: Path) -> str:
    """Why Hydra could not compose, with the file."""
    text = str(error)
    where = re.match(r"In '(.+?)': ", text)
    file = shorter(conf / f"{where[1]}.yaml") if where else shorter(conf)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        naming = [
            f"{shorter(path)}:{number}"
            for path in conf.rglob("*.yaml")
            for number, line in enumerate(_text(path).splitlines(), start=1)
            if re.search(rf"\b{re.escape(name)}$", line.rstrip("]} "))
        ]
        place = naming[0] if len(naming) == 1 else file  # Hydra blames the primary config
        missing = error.missing_cfg_file
        expected = _options(conf / group, name)
        return f"{place}: its defaults name {missing}, which is not there\n{expected}"
    if where and where[1].split("/")[0] in NEED_A_HEADER and f"@{where[1].split('/')[0]}." in text:
        return f"{file}: {HEADER}"
    if not isinstance(error, HydraException | OmegaConfBaseException) or not text:
        found = "\n".join(_broken_files(conf))
        return found or f"Hydra cannot compose this ({type(error).__name__}: {text[:200]})"
    lines = [line for line in text.splitlines() if line.strip() and "hydra.cc" not in line]
    return "\n".join(lines[:6])


def _text(file: Path) -> str:
    return file.read_text("utf-8", errors="replace")


def _broken_files(conf: Path) -> Iterator[str]:
    """The files that OmegaConf cannot read, where Hydra's error does not say which."""
    for file in sorted(conf.rglob("*.yaml")):
        try:
            OmegaConf.load(file)
        except (UnicodeDecodeError, RecursionError):
            yield f"{shorter(file)}: not UTF-8 text, or nested too deeply"
        except (YAMLError, OmegaConfBaseException) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{shorter(file)}:{mark.line + 1}:{mark.column + 1}" if mark else shorter(file)
            why = getattr(error, "problem", None) or str(error).splitlines()[0]
            before, conflict, _ = f"\n{_text(file)}".partition("\n<<<<<<< ")
            if conflict:
                place = f"{shorter(file)}:{before.count(chr(10)) + 1}"
                why = "<<<<<<< is a merge conflict of git; keep one of its two sides"
            yield f"{place}: not valid YAML: {why}"
        except OSError as error:
            yield f"{shorter(file)}: {error.strerror or 'expected KEY: VALUE, not a value alone'}"
