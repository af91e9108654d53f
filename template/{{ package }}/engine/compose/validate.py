"""Validates a composed config; all problems are reported at once."""

import contextlib
import copy
import difflib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from .. import see
from ..config import Config
from ..errors import WITHOUT, UserError, refuse
from ..overrides import as_yaml, leaves, split_override
from ..project import Project
from ..types import text_keys
from . import credentials
from .aliases import ALIAS
from .compose import HEADER, NEED_A_HEADER, ComposeError, compose, is_group, options, sets_value
from .explain import Origin, by_override, find_origins, nearest_origin

BUILT_IN_MODES = ("check", "explain", "report")
NO_TARGET = "from-lightning-hydra-template.md#why-there-is-no-_target_"
SECTION = "a section, with keys of its own"
PLAIN = {"bool_type": "true or false", "string_type": "text; numbers, true and false need quotes"}
PLAIN |= {"model_type": SECTION, "model_attributes_type": SECTION}
NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)|true|false", re.I)
SYNONYMS = {"on": "true", "yes": "true", "off": "false", "no": "false", "none": "null"}
OF_PARTS = {  # keys that the answer `parts` adds
    "fit": "fit",
    "training.gradient_checkpointing": "fit",
    "training.run.gradient_checkpointing": "fit",
    "training.parallel": "fsdp",
    "training.finetune": "finetune",
    "training.loader.batch_tokens": "streams",
}
LONGEST_VALUE = 80

Problem = tuple[str, str]  # key, what is wrong with it


def quote_text(project: Project, overrides: list[str]) -> list[str]:
    """The same overrides, with numbers quoted where the key's type is text, as in `name=1e5`."""
    texts, quoted = text_keys(project.config), []
    for override in overrides:
        prefix, key, value = split_override(override)
        if key in texts and re.fullmatch(r"=[\w.,+-]+", value):
            parts = value[1:].split(",")
            value = "=" + ",".join(f"'{it}'" if NUMBER.fullmatch(it) else it for it in parts)
        quoted.append(prefix + key + value)
    return quoted


class Checker:
    """Checks the jobs of one command line against conf/."""

    # the last valid config: train.py asks for it again once Hydra has composed the same values
    last: ClassVar[tuple[Any, Config | None]] = (None, None)

    def __init__(self, project: Project, spelling: dict[str, str] | None = None) -> None:
        """`spelling` maps an expanded override to what the user typed."""
        self.project, self.conf = project, project.conf
        self.spelling = spelling or {}
        self.space: list[str] = []  # the keys of a search space in conf/
        self.bases: dict[tuple[str, ...], DictConfig] = {}

    def check(self, overrides: list[str]) -> Config:
        """Compose and validate one job. Raises UserError with every problem and its place."""
        return self.validate(self.compose(overrides), overrides)

    def validate(self, composed: DictConfig, overrides: Sequence[str] = ()) -> Config:
        """The typed config of these overrides. Raises UserError like `check`."""
        values = OmegaConf.to_container(composed, resolve=False)
        known, config = Checker.last
        if config is None or known != values:
            config, problems = _validate(self.project, composed)
            if config is None:
                raise UserError(*self._locate(problems, overrides))
            Checker.last = values, config
        return config

    def compose(self, overrides: list[str], force: bool = False) -> DictConfig:
        """What Hydra would compose; with `force`, unknown keys are added. Raises like `check`."""
        with contextlib.suppress(Exception):  # it is reported below
            return self._compose(overrides, force)
        # Hydra stops at the first problem
        wrong = {o: problem for o in overrides if (problem := self._group_problem(o))}
        kept = [o for o in overrides if o not in wrong]
        problems = list(wrong.values())
        with contextlib.suppress(Exception):
            found = _validate(self.project, self._compose(kept, force=True))[1]
            problems += self._locate(found, kept)
        refuse(problems)
        try:
            return compose(self.conf, overrides)
        except ComposeError as error:
            raise UserError(f"{self._blame(overrides)}{error}") from None

    def _compose(self, overrides: list[str], force: bool) -> DictConfig:
        """Composes as Hydra does, but the files of each combination of groups only once (50 ms)."""
        parsed = OverridesParser.create().parse_overrides(overrides)
        values = [o for o in parsed if sets_value(self.conf, o.input_line or "")]
        values = [o for o in values if force or not o.is_add()]
        values = [o for o in values if not o.key_or_group.startswith(("hydra.", "hydra/"))]
        files = tuple(o.input_line or "" for o in parsed if o not in values)
        if files not in self.bases:
            self.bases[files] = compose(self.conf, list(files))
        composed = copy.deepcopy(self.bases[files])
        for o in values:
            adds = force or o.is_force_add()
            OmegaConf.update(composed, o.key_or_group, o.value(), merge=True, force_add=adds)
        return composed

    def _blame(self, overrides: list[str]) -> str:
        """The override without which the others compose."""
        for i, override in enumerate(overrides):
            with contextlib.suppress(UserError):
                compose(self.conf, overrides[:i] + overrides[i + 1 :])
                return f"{self.spelling.get(override, override)}: "
        return ""

    def _group_problem(self, override: str) -> str | None:
        prefix, key, value = split_override(override)
        if prefix == "~" or not is_group(self.conf, key):
            return None
        if prefix:
            with contextlib.suppress(UserError):
                compose(self.conf, [key + value])
                return f"{override}: {key} has a default, which + cannot replace; type {key}{value}"
        group = key.split("@")[0].replace(".", "/")
        chosen = value[1:].strip("'\"").removesuffix(".yaml")
        if (self.conf / group / f"{chosen}.yaml").is_file() or value[1:2] in ("[", "{"):
            return None
        expected = options(self.conf, group, chosen)
        return f"{override}: no such option of the group {key}\n{expected}"

    def _locate(self, problems: list[Problem], overrides: Sequence[str]) -> Iterator[str]:
        # an override of the key itself wins; other places are looked up in conf/
        given = {split_override(o)[1]: by_override(o, self.spelling) for o in overrides}
        given |= dict.fromkeys(self.space, Origin("", "the search space, hydra.sweeper.params"))
        origins: dict[str, list[Origin]] = {}
        if any(key not in given for key, _ in problems):
            with contextlib.suppress(Exception):  # report the problem without its place
                origins = find_origins(self.conf, list(overrides), self.spelling)
        for key, text in problems:
            if text.endswith(SECTION) and is_group(self.conf, key):
                text += f"; choose an option with {key.replace('.', '/')}=OPTION"
            if origin := given.get(key) or nearest_origin(key, origins):
                text += f"\nfrom {origin.place}"
                for name in re.findall(r"oc\.env:(\w+)", origin.value):
                    value = os.environ.get(name)
                    if value and not credentials.is_credential(name, value):
                        text += f", the environment's {name}={value}"
            yield f"{key}{text}"


def _validate(project: Project, composed: DictConfig) -> tuple[Config | None, list[Problem]]:
    problems: list[Problem] = []
    values = resolve(composed, "", problems)
    written = list(leaves(OmegaConf.to_container(composed, resolve=False)))
    plain = list(leaves(values))
    both = (*written, *plain)
    if secret := dict.fromkeys(key for key, value in both if credentials.is_credential(key, value)):
        return None, [(key, credentials.REFUSED) for key in secret]
    for key, value in plain:
        if isinstance(value, str) and value.startswith("~/"):
            problems.append((key, f" = {value}: write ${{oc.env:HOME}}{value[1:]}"))
    problems += _mode_problems(project, values)
    try:
        config = project.config.model_validate(values)
        return (None if problems else config), problems
    except ValidationError as error:
        details = error.errors()
    broken = {key for key, _ in problems}
    located = [(detail["type"], _keys(detail["loc"], values)) for detail in details]
    extra = tuple(".".join([*keys, ""]) for kind, keys in located if kind == "extra_forbidden")
    found = [(name, ALIAS.fullmatch(str(text))) for name, text in written]
    aliases = {f"{name.split('.')[0]}.{match[1]}": name for name, match in found if match}
    # the valid keys, each with its flat alias, else with itself
    known = {key: aliases.get(key, key) for key, _ in plain if not f"{key}.".startswith(extra)}
    missing = [".".join(keys) for kind, keys in located if kind == "missing"]
    problems += _missing([key for key in missing if key not in broken])
    others = [_describe(detail, values, known) for detail in details if detail["type"] != "missing"]
    return None, [*problems, *(problem for problem in others if problem[0] not in broken)]


def _mode_problems(project: Project, values: dict[str, Any]) -> Iterator[Problem]:
    mode = values.get("mode")
    if isinstance(mode, str) and mode not in (*project.modes, *BUILT_IN_MODES):
        modes = ", ".join([*project.modes, *BUILT_IN_MODES])
        yield "mode", f" = {mode}: expected one of {modes}"
    if mode == "train" and (checkpoint := values.get("checkpoint")):
        way_out = f"init={checkpoint} starts from its weights"
        yield "checkpoint", f" = {checkpoint}: mode=train does not read it; {way_out}"
    expected = {"checkpoint": "runs/NAME", "input": "a file or a folder"}
    for key in project.needs(str(mode)):
        if values.get(key) is None:
            yield key, f" = null: expected {expected.get(key, 'a value')}, which mode={mode} needs"


def resolve(node: DictConfig, path: str, problems: list[Problem]) -> dict[str, Any]:
    """Plain values, without the aliases; broken interpolations become problems."""
    values = {}
    unresolved: Any = OmegaConf.to_container(node, resolve=False)
    for key, raw in unresolved.items():
        here = f"{path}{key}"
        is_alias = path.count(".") == 1 and isinstance(raw, str) and ALIAS.fullmatch(raw)
        if is_alias or OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
            if isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            problems.append((here, f" = {raw}: {str(error).splitlines()[0]}"))
        else:
            is_section = isinstance(value, DictConfig)
            values[str(key)] = resolve(value, f"{here}.", problems) if is_section else value
    return values


def _keys(location: tuple[int | str, ...], values: dict[str, Any]) -> list[str]:
    """The path of keys to a pydantic error."""
    keys: list[str] = []
    node: Any = values
    for part in location:
        section = node if isinstance(node, dict) else {}
        if isinstance(part, int):
            keys[-1] += f"[{part}]"
        elif part != section.get("kind") or part in section:  # a schema's name is not a key
            keys.append(part)
            node = section.get(part)
    return keys


def _describe(detail: Any, values: dict[str, Any], known: dict[str, str]) -> Problem:
    """A pydantic error as the key and what is wrong with it."""
    keys, value = _keys(detail["loc"], values), detail["input"]
    kind, context = detail["type"], detail.get("ctx", {})
    change = ""
    if kind == "conflict":
        expected = re.findall(r"([\w.]+) \(", context["expected"])
        named = [".".join([*keys, name]) for name in (context["key"], *expected)]
        if len(both := [known[key] for key in named if key in known]) > 1:
            change = f"\nchange one: {both[0]}=… or {both[1]}=…"
        keys += context["key"].split(".")
        value = OmegaConf.select(OmegaConf.create(values), ".".join(keys))
    key = ".".join(keys)
    if key in NEED_A_HEADER:
        return key, f" = {_show(value)}: {HEADER}"
    if kind == "extra_forbidden":
        while isinstance(value, dict) and len(value) == 1:  # nix.lr=1 makes a section nix
            ((last, value),) = value.items()
            keys.append(str(last))
        key, why = ".".join(keys), _suggest(keys, known)
        if keys[-1] == "_target_":
            why = "; a config names values, not code" + see(NO_TARGET)
        if part := next((OF_PARTS[it] for it in OF_PARTS if f"{key}.".startswith(f"{it}.")), None):
            why = f"; {WITHOUT.format(part)}"
        return key, f" = {_show(value)}: no such key{why}"
    if kind.startswith("union_tag"):
        tag = value.get("kind") if isinstance(value, dict) else None
        expected = context.get("expected_tags", "the name of one of its schemas")
        return f"{key}.kind", f" = {_show(tag)}: expected {expected}"
    message = re.sub("^(Input should be|Value error,|Assertion failed,) ", "", detail["msg"])
    message = PLAIN.get(kind, message)
    word = "none" if value is False and kind == "model_type" else str(value).lower()
    if word in SYNONYMS and (word == "none") == (kind != "bool_type"):
        message += f"; did you mean {SYNONYMS[word]}?"
    return key, f" = {_show(value)}: expected {message}{change}"


def _missing(keys: list[str]) -> Iterator[Problem]:
    """Keys without a value, one problem per group, with the lines to add."""
    lacking: Any = OmegaConf.create()
    for key in keys:
        OmegaConf.update(lacking, key, "…")
    for group, missing in lacking.items():
        if isinstance(missing, str):
            yield str(group), f": no value; conf/config.yaml needs\n{group}: …"
        else:
            add = OmegaConf.to_yaml(missing).rstrip()
            wrong = ": no value for some keys; extend a file that has them, or add"
            yield str(group), f"{wrong}\n{add}"


def _suggest(keys: list[str], known: dict[str, str]) -> str:
    """The most similar keys, or else the keys of the section."""
    *parents, last = keys
    section, given = "".join(f"{key}." for key in parents), ".".join(keys)
    inside = [key.removeprefix(section) for key in known if key.startswith(section)]
    siblings = list(dict.fromkeys(key.split(".")[0] for key in inside))
    meant = (
        [key for key in known if key.endswith(f".{given}")]
        or [key for key in known if key.rpartition(".")[2] == last]
        or [section + key for key in difflib.get_close_matches(last, siblings, 1)]
        or difflib.get_close_matches(given, known, 1, 0.8)
    )
    if not meant:
        has = f"; {'.'.join(parents) or 'the config'} has: {', '.join(siblings)}"
        return has if siblings else ""
    alias = known.get(meant[0], meant[0])
    short = f" ({alias} for short)" if alias != meant[0] else ""
    return f"; did you mean {' or '.join(meant[:3])}?{short}"


def _show(value: Any) -> str:
    text = as_yaml(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "…"
