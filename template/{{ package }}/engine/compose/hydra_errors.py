"""Hydra's errors from composing, as a few lines that name the file."""

import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.error import YAMLError

from ..errors import nearest
from .files import read_files

NEED_A_HEADER = ("experiment", "local")
HEADER = """a file of this group sets keys of others, so its first line is
# @package _global_
saved as UTF-8, without a byte order mark (BOM)"""


def composing_problem(error: Exception, conf: Path) -> str:
    """Why Hydra could not compose, with the file."""
    text = str(error)
    where = re.match(r"In '(.+?)': ", text)
    file = f"{conf.name}/{where[1]}.yaml" if where else conf.name
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = str(error.missing_cfg_file)
        group, _, name = missing.rpartition("/")
        naming = [
            f"{it.name}:{number}"
            for it in read_files(conf)
            for number, line in enumerate(it.text.splitlines(), start=1)
            if re.search(rf"\b{re.escape(name)}$", line.rstrip("]} "))
        ]
        place = naming[0] if len(naming) == 1 else file  # Hydra blames the primary config
        expected = options(conf, group, name)
        return f"{place}: its defaults name {missing}, which is not there\n{expected}"
    group = where[1].split("/")[0] if where else ""
    if group in NEED_A_HEADER and f"@{group}." in text:
        return f"{file}: {HEADER}"
    if not isinstance(error, HydraException | OmegaConfBaseException) or not text:
        found = "\n".join(_broken_files(conf))
        return found or f"Hydra cannot compose this ({type(error).__name__}: {text[:200]})"
    lines = [line for line in text.splitlines() if line.strip() and "hydra.cc" not in line]
    return "\n".join(lines[:6])


def options(conf: Path, group: str, chosen: str) -> str:
    """The options of a group, for a message about one that is missing."""
    folder = conf / group
    if (other := folder / f"{chosen}.yml").exists():
        return f"Hydra reads files that end in .yaml: rename {other.relative_to(conf.parent)}"
    found = sorted(path.stem for path in folder.glob("*.yaml"))
    return f"expected one of {', '.join(found)}{nearest(chosen, found)}"


def _broken_files(conf: Path) -> Iterator[str]:
    """A line for each file that OmegaConf cannot read: Hydra's error does not name it."""
    for file in sorted(conf.rglob("*.yaml")):
        name = file.relative_to(conf.parent)
        try:
            OmegaConf.load(file)
        except (UnicodeDecodeError, RecursionError):
            yield f"{name}: not UTF-8 text, or nested too deeply"
        except OSError as error:
            yield f"{name}: {error.strerror or 'expected KEY: VALUE, not a value alone'}"
        except (YAMLError, OmegaConfBaseException) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            why = getattr(error, "problem", None) or str(error).splitlines()[0]
            lines = file.read_text("utf-8", errors="replace").splitlines()
            if conflict := [n for n, it in enumerate(lines, 1) if it.startswith("<<<<<<< ")]:
                place = f"{name}:{conflict[0]}"
                why = "<<<<<<< is a merge conflict of git; keep one of its two sides"
            yield f"{place}: not valid YAML: {why}"
