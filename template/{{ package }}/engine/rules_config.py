# Kept by the template; an update merges what you change here.
"""What the config rules know of conf/: its values by name, its aliases, and which options hold."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..config import Config
from .aliases import ALIAS, Aliases, read_files
from .checking import Checker, Problem, resolved
from .composing import ERRORS, compose
from .errors import UserError

Key = tuple[str, ...]  # a key's names, from the config's root
Values = dict[str, Any]

# one spelling of what goes by several names
SPELLINGS = {
    "learning_rate": "lr learningrate",
    "sample_rate": "sr samplerate sampling_rate",
    "batch_size": "bs batchsize",
    "weight_decay": "wd weightdecay",
    "iter_num": "num_iters n_iters max_iters num_iterations max_iterations "
    "num_steps n_steps max_steps total_steps train_steps",
}
SPELLED = {other: one for one, others in SPELLINGS.items() for other in others.split()}
UNITS = {"hz", "khz", "db", "s", "sec", "secs", "seconds", "ms", "samples", "frames", "steps"}
# words that say nothing of what is meant
NEUTRAL = {"base", "current", "default", "init", "initial", "model", "my", "n", "new", "num"}
NEUTRAL |= {"our", "target", "the", "value"}
# names that mean something else in most places: they need their section's name beside them
GENERIC = re.compile(
    r"account|device|devices|entity|every|experiment|format|goal|init|input|items|key|kind|metric"
    r"|mode|more|name|node|nodes|partition|points|port|project|setup|test|train|valid"
)
CHOOSES_PRESET = re.compile(r"^\s*- override /?training:", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One breach of a rule, or an advice."""

    file: str
    line: int
    rule: str
    wrong: str
    way_out: str

    def __str__(self) -> str:
        """`file:line: rule: what is wrong`, and the way out below it."""
        return f"{self.file}:{self.line}: {self.rule}: {self.wrong}\n    {self.way_out}"


@dataclass(frozen=True)
class Value:
    """A value that conf/ gives a key, and where."""

    path: Key
    place: str


def words(name: str) -> tuple[str, ...]:
    """`TARGET_SAMPLE_RATE` and `targetSampleRate` to (target, sample, rate)."""
    found = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    text = f"_{'_'.join(found)}_"
    for other, one in SPELLED.items():
        text = text.replace(f"_{other}_", f"_{one}_")
    return tuple(text.strip("_").split("_"))


def means(name: str, path: Key, distinct: bool = False) -> bool:
    """Whether a name in code would be read as this key's.

    The key's words end it. Before them anything may stand if they are several (sample_rate) or the
    value is a distinct one; if it is a single one (dim), only its section's name or a neutral word.
    Other synonyms than SPELLINGS are missed.
    """
    said, key = words(name), words(path[-1])
    if said[-1:] == ("default",) or (said[-1] in UNITS and said[-1] not in key):
        said = said[:-1]
    if said[-len(key) :] != key:
        return False
    before = set(said[: -len(key)])
    section = {word for part in path[:-1] for word in words(part)}
    if GENERIC.fullmatch(path[-1]):
        return bool(before) and before <= section
    return len(key) > 1 or distinct or before <= section | NEUTRAL


def canonical(value: object) -> object:
    """Values that are equal in YAML or in Python, to one that is equal; None for the usual ones.

    Usual are true, false, null, 0, 1, -1, 2, auto, and texts of one letter.
    """
    if isinstance(value, list | tuple):
        parts = [canonical(part) for part in value]
        usual = all(part is None for part in parts)
        return None if usual else repr([_number(part) for part in value])
    value = _number(value)
    if isinstance(value, bool) or value in (0, 1, -1, 2, "auto", "none", "null"):
        return None
    if isinstance(value, float) or (isinstance(value, str) and len(value) > 1):
        return value
    return None


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


class Conf:
    """The files of conf/ below `root`, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "conf"
        self.paths: dict[Key, str] = {}
        self.values: dict[object, list[Value]] = {}
        self.experiments: list[Value] = []
        self.aliases: list[tuple[Value, Key]] = []
        for file, group, leaves in read_files(self.conf):
            place = file.relative_to(root).as_posix()
            if place.startswith("conf/hydra/"):
                continue
            for path, node, line in leaves:
                here = Value(path, f"{place}:{line}")
                if path[0] not in ("defaults", "hydra"):
                    self._add(here, node, group)

    def _add(self, here: Value, node: yaml.Node, group: Key) -> None:
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        if (alias := ALIAS.fullmatch(text)) and group and len(here.path) == len(group) + 1:
            self.aliases.append((here, (*group, *alias[1].split("."))))
            return
        self.paths.setdefault(here.path, here.place)
        if here.place.startswith("conf/experiment/") and not isinstance(node, yaml.MappingNode):
            self.experiments.append(here)
        value = canonical(_plain(node))
        if value is not None and "${" not in text:
            self.values.setdefault(value, []).append(here)

    def finding(self, key: Value, rule: str, wrong: str, way_out: str) -> Finding:
        """A finding at the line of this key."""
        file, line = key.place.rsplit(":", 1)
        return Finding(file, int(line), rule, wrong, way_out)

    def place(self, key: Key) -> tuple[str, int]:
        """File and line of the first file that has it."""
        file, line = self.paths.get(key, "conf/config.yaml:1").rsplit(":", 1)
        return file, int(line)

    @property
    def sections(self) -> set[Key]:
        """Keys that hold other keys."""
        return {path[:i] for path in self.paths for i in range(1, len(path))}

    def repeated(self, name: str, value: object) -> Value | None:
        """The key whose name and value these are."""
        known = self.values.get(canonical(value), [])
        distinct = isinstance(value, str) and re.search(r"\W", value) is not None
        return next((it for it in known if means(name, it.path, distinct)), None)


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(part) for part in node.value]
    if isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":bool", ":null")):
        return node.value
    return None


def alias_findings(conf: Conf) -> Iterator[Finding]:
    """Aliases that clash, lead nowhere or to a section, or shadow one."""
    sections = conf.sections
    shadows = [".".join(alias.path) for alias, _ in conf.aliases if alias.path in sections]
    for problem in Aliases(conf.conf).problems:
        file, line, text = problem.split(":", 2)
        if not text.strip().startswith(tuple(f"{name} is an alias;" for name in shadows)):
            wrong, _, way_out = text.strip().partition("; ")
            keep = "keep one of the two lines, or give one another name"
            yield Finding(file, int(line), "alias", wrong, way_out or keep)
    for alias, target in conf.aliases:
        name, real = ".".join(alias.path), ".".join(target)
        if alias.path in sections:
            wrong = f"{name} shadows the section of {conf.paths[alias.path]}"
            way_out = "give the alias another name"
        elif target in sections:
            wrong, way_out = f"{name} leads to {real}, a section", "an alias names one value"
        elif target not in conf.paths:
            known = [".".join(path) for path in conf.paths if path not in sections]
            near = difflib.get_close_matches(real, known, 1)
            wrong = f"{name} leads to {real}, which no file has"
            way_out = f"did you mean {near[0]}?" if near else "name a key of this group"
        else:
            continue
        yield conf.finding(alias, "alias", wrong, way_out)


def alias_advice(conf: Conf) -> Iterator[Finding]:
    """Keys three levels deep or more that experiments set, and that have no alias.

    Where the alias would have a name that is taken, or too general to be one, none is advised.
    """
    told = {target for _, target in conf.aliases}
    taken = {alias.path for alias, _ in conf.aliases} | conf.paths.keys()
    for key in conf.experiments:
        group, *rest = key.path
        free = (group, rest[-1]) not in taken and not GENERIC.fullmatch(rest[-1]) if rest else False
        if len(rest) > 1 and free and key.path not in told:
            told.add(key.path)
            wrong = f"{'.'.join(key.path)} has no flat alias"
            way_out = f"beside those of conf/{group}: {rest[-1]}: ${{.{'.'.join(rest)}}}"
            yield conf.finding(key, "advice", wrong, way_out)


def option_findings(conf: Conf) -> Iterator[Finding]:
    """Options that do not compose or validate, alone or with a preset of conf/training.

    Composing takes some 70 ms, so an option that leaves the training alone is composed once, and
    each preset's section put into the result: what one group reads of another by interpolation is
    that of the default then. An option that chooses its preset itself is checked with that one.
    conf/hydra and conf/local are left out.
    """
    told: set[tuple[str, int]] = set()
    for finding in _option_findings(conf):
        if (finding.file, finding.line) not in told:  # options that extend it fail alike
            yield finding
        told.add((finding.file, finding.line))


def _option_findings(conf: Conf) -> Iterator[Finding]:
    presets = {}
    for file in sorted((conf.conf / "training").glob("*.yaml")):
        values, found = _composed(conf, file, [f"training={file.stem}"])
        yield from found
        if values:
            presets[file.stem] = values["training"]
    if not presets:
        return  # nothing composes
    for file in sorted(conf.conf.glob("*/**/*.yaml")):
        group = file.parent.relative_to(conf.conf).as_posix()
        if group.split("/")[0] in ("training", "hydra", "local"):
            continue
        option = f"{group}={file.stem}"
        alone, found = _composed(conf, file, [option])
        yield from found
        if alone and not CHOOSES_PRESET.search(file.read_text("utf-8", errors="replace")):
            yield from _with_presets(conf, file, option, alone, presets)


def _with_presets(
    conf: Conf, file: Path, option: str, alone: Values, presets: dict[str, Values]
) -> Iterator[Finding]:
    untouched = alone["training"] in presets.values()
    for preset, training in presets.items():
        if not (untouched and _is_valid({**alone, "training": training})):
            found = _composed(conf, file, [option, f"training={preset}"])[1]
            yield from found
            if found:
                return  # one preset is enough to tell it


def _is_valid(values: Values) -> bool:
    try:
        Config.model_validate(values)
    except ValidationError:
        return False
    return True


def _composed(conf: Conf, file: Path, overrides: list[str]) -> tuple[Values, list[Finding]]:
    """The config's values, or what is wrong with them."""
    problems: list[Problem] = []
    try:
        values = resolved(compose(conf.conf, overrides), "", problems)
        if not problems and _is_valid(values):
            return values, []
    except ERRORS:
        pass  # the checker says it better
    try:
        Checker(conf.conf, {}).check(overrides)
    except UserError as error:
        return {}, [_told(conf, file, overrides, problem) for problem in error.problems]
    except Exception as error:  # such as a file that is a list: Hydra fails in its own way
        return {}, [_told(conf, file, overrides, f"{type(error).__name__}: {error}")]
    return {}, []


def _told(conf: Conf, file: Path, overrides: list[str], problem: str) -> Finding:
    place, line = file.relative_to(conf.root).as_posix(), 1
    for number, text in enumerate(file.read_text("utf-8", errors="replace").splitlines(), start=1):
        if (named := re.match(r"\s*- .*?([\w-]+)\s*$", text)) and named[1] in problem:
            line = number  # an option that its defaults name and that is not there
            break
    at = re.search(r"\b(conf/[^\s:]+):(\d+)", problem)
    if at and (conf.root / at[1]).is_file():
        place, line = at[1], int(at[2])
    given = " ".join(overrides)
    what, *more = [text for text in problem.splitlines() if not text.startswith("from ")]
    way_out = "\n    ".join([*more, f"mend it, then try: python train.py mode=check {given}"])
    return Finding(place, line, "option", f"{given}: {what}", way_out)
