"""What the config rules know of conf/: its values by name, its aliases, and which options hold."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from .aliases import Aliases, Key, Setting
from .checking import Checker
from .errors import UserError, nearest

# one spelling of what goes by several names
SPELLINGS = dict.fromkeys(["lr", "learningrate"], "learning_rate")
ITERATIONS = "num_iters n_iters max_iters num_iterations max_iterations num_steps n_steps max_steps"
SPELLINGS |= dict.fromkeys([*ITERATIONS.split(), "total_steps", "train_steps"], "iter_num")
UNITS = {"s", "sec", "secs", "seconds", "ms", "hz", "khz", "db", "px", "samples", "frames", "steps"}
# words that say nothing of what is meant
NEUTRAL = {"base", "current", "default", "init", "initial", "model", "my", "n", "new", "num"}
NEUTRAL |= {"our", "target", "the", "value"}
CHOOSES_PRESET = re.compile(r"override /?training:")
USUAL = ("auto", "true", "false", "null", "none")
# names that mean something else in most places: they need their section's name beside them
GENERIC = re.compile(
    r"account|device|devices|entity|every|experiment|format|init|input|items|key|kind|metric"
    r"|mode|more|name|node|nodes|partition|points|port|project|setup|test|train|valid"
)


class Finding(NamedTuple):
    """One breach of a rule, or an advice."""

    place: str  # file:line
    rule: str
    wrong: str
    way_out: str

    def __str__(self) -> str:
        """`file:line: rule: what is wrong`, and the way out below it."""
        return f"{self.place}: {self.rule}: {self.wrong}\n    {self.way_out}"


def words(name: str) -> tuple[str, ...]:
    """`MY_BATCH_SIZE` and `myBatchSize` to (my, batch, size)."""
    found = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    text = f"_{'_'.join(found)}_"
    for other, one in SPELLINGS.items():
        text = text.replace(f"_{other}_", f"_{one}_")
    return tuple(text.strip("_").split("_"))


def means(name: str, path: Key) -> bool:
    """Whether a name in code would be read as this key's.

    The key's words, their initials or all of them in one (bs, batchsize) end it. Before them
    anything may stand if they are several (batch_size); if it is a single one (dim), only its
    section's name or a neutral word. Other synonyms than SPELLINGS are missed.
    """
    said, key = words(name), words(path[-1])
    if said[-1:] == ("default",) or (said[-1] in UNITS and said[-1] not in key):
        said = said[:-1]
    if len(key) > 1 and said[-1:] in (("".join(key),), ("".join(word[0] for word in key),)):
        said = (*said[:-1], *key)
    if said[-len(key) :] != key:
        return False
    before = set(said[: -len(key)])
    section = {word for part in path[:-1] for word in words(part)}
    if GENERIC.fullmatch(path[-1]):
        return bool(before) and before <= section
    return len(key) > 1 or before <= section | NEUTRAL


def canonical(value: object) -> object:
    """Values that are equal in YAML or in Python, to one that is equal; None for the usual ones.

    Usual are true, false, null, 0, 1, -1, 2, auto, and texts of one letter.
    """
    if isinstance(value, list | tuple):
        parts = [canonical(part) for part in value]
        return repr(parts) if any(part is not None for part in parts) else None
    if not isinstance(value, int | float | str):
        return None
    try:
        return None if float(value) in (0, 1, -1, 2) else float(value)
    except (ValueError, OverflowError):
        return value if len(str(value)) > 1 and value not in USUAL else None


class Conf:
    """The files of conf/ below `root`, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "conf"
        self.paths: dict[Key, str] = {}  # each key, with the first place that has it
        self.values: dict[object, list[Setting]] = {}
        found = Aliases(self.conf)
        self.aliases, self.misuses = found.declared, found.problems
        aliases = [it for it, _ in self.aliases]
        ours = [file for file in found.files if not file.name.startswith("conf/hydra/")]
        settings = [it for file in ours for it in file.settings if it not in aliases]
        self.settings = [it for it in settings if it.key[0] not in ("defaults", "hydra")]
        for it in self.settings:
            self.paths.setdefault(it.key, it.place)
            value = canonical(_plain(it.node))
            if value is not None and "${" not in it.text:
                self.values.setdefault(value, []).append(it)
        self.sections = {key[:i] for key in self.paths for i in range(1, len(key))}

    def repeated(self, name: str, value: object) -> Setting | None:
        """The key whose name and value these are."""
        known = self.values.get(canonical(value), [])
        return next((it for it in known if means(name, it.key)), None)


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(part) for part in node.value]
    return node.value if isinstance(node, yaml.ScalarNode) else None


def alias_findings(conf: Conf) -> Iterator[Finding]:
    """Aliases that clash, lead nowhere or to a section, or shadow one."""
    sections, known = conf.sections, conf.paths.keys() - conf.sections
    shadows = tuple(f"{'.'.join(it.key)} is" for it, _ in conf.aliases if it.key in sections)
    for problem in conf.misuses:
        place, text = problem.split(": ", 1)
        if not text.startswith(shadows):
            wrong, _, way_out = text.partition("; ")
            keep = "keep one of the two lines, or give one another name"
            yield Finding(place, "alias", wrong, way_out or keep)
    for alias, target in conf.aliases:
        name, real = ".".join(alias.key), ".".join(target)
        if alias.key in sections:
            wrong = f"{name} shadows the section of {conf.paths[alias.key]}"
            yield Finding(alias.place, "alias", wrong, "give the alias another name")
        elif target in sections:
            wrong = f"{name} leads to {real}, a section"
            yield Finding(alias.place, "alias", wrong, "an alias names one value")
        elif target not in known:
            wrong = f"{name} leads to {real}, which no file has"
            near = nearest(real, [".".join(path) for path in known]).removeprefix("; ")
            yield Finding(alias.place, "alias", wrong, near or "name a key of this group")


def alias_advice(conf: Conf) -> Iterator[Finding]:
    """Keys three levels deep or more that experiments set, and that have no alias.

    Where the alias would have a name that is taken, or too general to be one, none is advised.
    """
    told = {target for _, target in conf.aliases}
    taken = {alias.key for alias, _ in conf.aliases} | conf.paths.keys()
    for it in [it for it in conf.settings if it.place.startswith("conf/experiment/")]:
        group, *rest = it.key
        is_section = isinstance(it.node, yaml.MappingNode)
        if is_section or len(rest) < 2 or it.key in told or (group, rest[-1]) in taken:
            continue
        told.add(it.key)
        if not GENERIC.fullmatch(rest[-1]):
            wrong = f"{'.'.join(it.key)} has no flat alias"
            way_out = f"beside those of conf/{group}: {rest[-1]}: ${{.{'.'.join(rest)}}}"
            yield Finding(it.place, "advice", wrong, way_out)


def option_findings(conf: Conf) -> Iterator[Finding]:
    """Options that do not compose or validate, and experiments that do not with some preset.

    Missed: other combinations, though tests/test_config.py has those of presets. conf/hydra and
    conf/local, the machine's own, are left out.
    """
    checker = Checker(conf.conf, {})
    presets = [f"training={file.stem}" for file in sorted(conf.conf.glob("training/*.yaml"))]
    told: set[str] = set()
    for file in sorted(conf.conf.glob("*/**/*.yaml")):
        group = file.parent.relative_to(conf.conf).as_posix()
        if group.split("/")[0] in ("hydra", "local"):
            continue
        chooses = CHOOSES_PRESET.search(file.read_text("utf-8", errors="replace"))
        cases = presets if group == "experiment" and not chooses else []
        for case in ("", *cases):
            given = f"{group}={file.stem} {case}".strip()
            found = []
            try:
                checker.check(given.split())
            except UserError as error:
                found = [_told(conf, file, given, problem) for problem in error.problems]
            yield from (it for it in found if it.place not in told)
            told |= {it.place for it in found}  # options that extend it fail alike
            if found:
                break


def _told(conf: Conf, file: Path, given: str, problem: str) -> Finding:
    at = re.search(r"\bconf/[^\s:]+:\d+", problem)
    place = at[0] if at else f"{file.relative_to(conf.root).as_posix()}:1"
    what, *more = [text for text in problem.splitlines() if not text.startswith("from ")]
    way_out = "\n    ".join([*more, f"mend it, then try: python train.py mode=check {given}"])
    return Finding(place, "option", f"{given}: {what}", way_out)
