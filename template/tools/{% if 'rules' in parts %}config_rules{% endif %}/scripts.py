"""The config rule for scripts of jobs: resources and environment there, values in conf/.

A script is read line by line. Missed: what runs inside $(…), in eval, behind srun's options and in
files that the script sources; variables, unless an override reads them. The body of a here document
is read like commands.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

from .conf import Conf, Finding, is_group

SETS_UP = re.compile(
    r"(:|\.|\[|\[\[|\}|[^ ]*\)|case|cd|date|deactivate|declare|done|echo|esac|eval|exit|export"
    r"|false|fi|for|hostname|local|mapfile|mkdir|ml|module|nvidia-smi|printf|read|readonly|return"
    r"|scontrol|select|set|shopt|sleep|source|test|trap|true|ulimit|umask|unset|wait)( |$)"
    r"|(conda|mamba|micromamba|spack) (?!run)"
)
PREFIX = re.compile(r"if|then|elif|else|while|until|do|!|\{|time|[A-Za-z_]\w*\+?=.*", re.DOTALL)
OVERRIDE = re.compile(r"[+~]{0,2}([\w./@]+)=")
TRAIN = re.compile(
    r"(exec )?(srun (-.*? )?)?(\S*/)?(python[\d.]*|\$\{?PYTHON\}?)( -[uOBI])*"
    r" (\./)?train\.py( .*)?"
)
FLAGS = ("-m", "--multirun", "--cfg", "-c", "--resolve", "--info", "--help")
ONLY_TRAIN = "run python train.py alone, with exec or srun before it, and give it group overrides"
TO_CONF = "put the value in a file of conf/, conf/experiment/NAME.yaml say, and choose that"


def script_findings(conf: Conf, script: Path) -> Iterator[Finding]:
    """Anything in a job's script but setting up, and one `python train.py` with group overrides."""
    file = script.relative_to(conf.root).as_posix()
    tops = sorted({path[0] for path in conf.paths} | {"hydra"})
    dotted = re.compile(rf"(?<![\w./$])[+~]{{0,2}}((?:{'|'.join(tops)})\.[\w.]+)=")
    runs, others, in_array = 0, 0, False
    for line, words in _commands(script.read_text("utf-8", errors="replace")):
        place = f"{file}:{line}"
        sets = dotted.findall(" ".join(words))
        if in_array or re.match(r"\w+\+?=\(", words[0]):
            in_array = not words[-1].endswith(")")
            words = []
        words = [*dropwhile(PREFIX.fullmatch, words)]
        if TRAIN.fullmatch(" ".join(words)):
            runs += 1
            sets += _wrong_arguments(conf, words)
            if runs == 2:
                yield Finding(place, "script", "runs python train.py a second time", ONLY_TRAIN)
        elif words and not SETS_UP.match(" ".join(words)):
            others += 1
            yield Finding(place, "script", f"runs {' '.join(words[:3])}", ONLY_TRAIN)
        for key in dict.fromkeys(sets):
            yield Finding(place, "script", f"{key} is set in a job's script", TO_CONF)
    if not runs and not others:
        yield Finding(f"{file}:1", "script", "never runs python train.py", ONLY_TRAIN)


def _commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """The simple commands of a shell script, each with its line; substitutions are cut out."""
    numbered = iter(enumerate(text.splitlines(), start=1))
    for start, line in numbered:
        while line.endswith("\\") and not line.lstrip().startswith("#"):
            line = line[:-1] + next(numbered, (0, ""))[1]
        line = re.sub(r"\$\(\([^()]*\)\)|\$\([^()]*\)|`[^`]*`", "$SUBSTITUTED", line)
        line = re.sub(r"\d?(<<<|&?>>?|<)&?\s*(\"[^\"]*\"|[^\s;]+)", "", line)  # from and to files
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command: list[str] = []
        try:
            words = list(lexer)
        except ValueError:  # a quotation is still open
            words = line.split()
        for word in [*words, ";"]:
            if word and not set(word) <= set(";&|"):
                command.append(word)
            elif command:
                yield start, command
                command = []


def _wrong_arguments(conf: Conf, words: list[str]) -> Iterator[str]:
    """What is given to train.py but its flags, groups and keys of the top level."""
    at_top = {path[0] for path in conf.paths if len(path) == 1} - {s[0] for s in conf.sections}
    begin = [Path(word).name for word in words].index("train.py") + 1
    for word in words[begin:]:
        override = OVERRIDE.match(word)
        key = override[1] if override else word if word.startswith("-") else ""
        if key and key not in FLAGS and key not in at_top and not is_group(conf.conf, key):
            yield key
