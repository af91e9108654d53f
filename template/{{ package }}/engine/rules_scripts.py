# Kept by the template; an update merges what you change here.
"""The config rule for scripts of jobs: resources and environment there, values in conf/."""

import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from pathlib import Path

from .composing import is_group
from .rules_config import Conf, Finding, means

SHELL = re.compile(
    r":|\.|\[|\[\[|\}|.*\)|case|cd|date|deactivate|done|echo|esac|exit|false|fi|for"
    r"|hostname|mapfile|mkdir|ml|module|nvidia-smi|printf|read|readarray|return"
    r"|scontrol|select|set|shopt|sleep|source|test|trap|true|ulimit|umask|unset|wait"
)
KEYWORDS = {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"}
EXPORTS = {"export", "declare", "readonly", "local", "typeset"}
ENVIRONMENTS = {"conda", "mamba", "micromamba", "spack"}
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\])?\+?=(.*)", re.DOTALL)
SLURMS_OWN = re.compile(r"\$\{?(\w+:-\$\{?)?SLURM")
ARRAY = re.compile(r"\w+\+?=\(.*", re.DOTALL)
OVERRIDE = re.compile(r"[+~]{0,2}([\w./@]+)=")
PYTHON = re.compile(r"(.*/)?python[\d.]*|\$\{?PYTHON\}?")
FLAGS = {"-m", "--multirun", "--cfg", "-c", "--resolve", "--info", "--help"}
ONLY_TRAIN = "run python train.py alone, with exec or srun before it, and give it group overrides"
TO_CONF = "put the value in a file of conf/, conf/experiment/NAME.yaml say, and choose that"


def script_findings(conf: Conf, script: Path) -> Iterator[Finding]:
    """Anything in a job's script but setting up, and one `python train.py` with group overrides.

    Missed: what runs inside $(…) and in files that the script sources.
    """
    file = script.relative_to(conf.root).as_posix()
    text = script.read_text("utf-8", errors="replace")
    tops = sorted({path[0] for path in conf.paths} | {"hydra"})
    dotted = re.compile(rf"(?<![\w./$])[+~]{{0,2}}((?:{'|'.join(tops)})\.[\w.]+)=")
    passed = re.compile(r"oc\.env:(\w+)")
    from_environment = {
        name
        for it in conf.conf.rglob("*.yaml")
        for name in passed.findall(it.read_text("utf-8", "replace"))
    }
    runs, others, in_array = 0, 0, False
    for line, command in _commands(text):
        overridden = {key for word in command for key in dotted.findall(word)}
        for key in sorted(overridden):
            yield Finding(file, line, "script", f"{key} is set in a job's script", TO_CONF)
        if in_array or ARRAY.fullmatch(command[0]):
            in_array = not command[-1].endswith(")")
            continue
        command = list(dropwhile(KEYWORDS.__contains__, command))
        if command and command[0] in EXPORTS:
            variables, command = command[1:], []
        else:
            variables = list(takewhile(ASSIGNMENT.fullmatch, command))
            command = command[len(variables) :]
        for word in variables:
            if key := _hyperparameter(conf, word, from_environment):
                yield Finding(file, line, "script", f"{word} sets {key} in a job's script", TO_CONF)
        if not command:
            continue
        arguments = _arguments(command)
        if arguments is None:
            if not _sets_up(command):
                others += 1
                yield Finding(file, line, "script", f"runs {' '.join(command[:3])}", ONLY_TRAIN)
            continue
        runs += 1
        if runs == 2:
            yield Finding(file, line, "script", "runs python train.py a second time", ONLY_TRAIN)
        for wrong in _wrong_arguments(conf, arguments, overridden):
            yield Finding(file, line, "script", wrong, TO_CONF)
    if not runs and not others:
        yield Finding(file, 1, "script", "never runs python train.py", ONLY_TRAIN)


def _hyperparameter(conf: Conf, word: str, passed: set[str]) -> str | None:
    """The key that a variable carries; those that conf/ reads, and Slurm's own, may."""
    assigned = ASSIGNMENT.fullmatch(word)
    if not assigned or assigned[1] in passed or SLURMS_OWN.match(assigned[2]):
        return None
    for path in conf.paths:
        of_the_work = path[0] in ("model", "training", "data") and path[1:2] != ("processes",)
        if of_the_work and len(path) > 1 and means(assigned[1], path):
            return ".".join(path)
    return None


def _commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """The simple commands of a shell script, each with its line; substitutions are cut out."""
    numbered = iter(enumerate(text.splitlines(), start=1))
    for start, line in numbered:
        while (words := _words(line)) is None and (more := next(numbered, None)):
            line = line.removesuffix("\\") + " " + more[1]
        if here := re.search(r"(?<!<)<<(?!<)-?\s*['\"]?(\w+)", line):
            for _, body in numbered:
                if body.strip() == here[1]:
                    break
        command: list[str] = []
        into_file = False
        for word in [*(words or []), ";"]:
            if not set(word) <= set(";&|<>"):
                command += [] if into_file else [word]
            elif set(word) <= set(";&|") and command:
                yield start, command
                command = []
            into_file = bool(set(word) & set("<>")) and set(word) <= set("&|<>")


def _words(line: str) -> list[str] | None:
    """The words and operators of a line; None for one that goes on in the next."""
    if line.endswith("\\") and not line.lstrip().startswith("#"):
        return None
    for substitution in (r"\$\(\([^()]*\)\)", r"\$\([^()]*\)", r"`[^`]*`"):
        line = re.sub(substitution, "$SUBSTITUTED", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quotation is still open
        return None


def _arguments(command: list[str]) -> list[str] | None:
    """What follows `python train.py`, behind exec or srun with its options; else None."""
    rest = command[command[0] == "exec" :]
    if rest and rest[0] == "srun":
        was, rest = "", rest[1:]
        while rest and not PYTHON.fullmatch(rest[0]):
            # an option, or the value of the one before
            if not rest[0].startswith("-") and (not was.startswith("-") or "=" in was):
                return None
            was, rest = rest[0], rest[1:]
    if not rest or not PYTHON.fullmatch(rest[0]):
        return None
    rest = rest[1:]
    while rest and rest[0] in ("-u", "-O", "-B", "-I"):
        rest = rest[1:]
    return rest[1:] if rest and Path(rest[0]).name == "train.py" else None


def _sets_up(command: list[str]) -> bool:
    if command[0] in ENVIRONMENTS:
        return command[1:2] not in (["run"], [])
    if command[0] == "eval":
        return any("SUBSTITUTED" in word for word in command)
    return bool(SHELL.fullmatch(command[0]))


def _wrong_arguments(conf: Conf, arguments: list[str], told: set[str]) -> Iterator[str]:
    for word in arguments:
        override = OVERRIDE.match(word)
        key = override[1] if override else ""
        if word.startswith("-") and word not in FLAGS:
            yield f"{word} is given to train.py, which takes overrides alone"
        elif key and key not in told and not is_group(conf.conf, key) and not _at_top(conf, key):
            yield f"{key} is set in a job's script"


def _at_top(conf: Conf, key: str) -> bool:
    return (key,) in conf.paths and (key,) not in conf.sections
