"""Composes the config as Hydra does, before Hydra starts; errors name the file in a few lines."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, nearest, refuse
from ..overrides import split_override
from ..run_dir.paths import output_dir
from .files import broken_files, read_files
from .hydra_section import JOB_NAME, WHITELIST, hydra_problems, searchpath_problems

# Hydra 1.3 warns without version_base, 1.4 with it; its OmegaConf renamed register_new_resolver
HYDRA_1_3 = hydra.__version__.startswith("1.3.")
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if HYDRA_1_3 else {}
HYDRA_MAIN = VERSION_BASE if HYDRA_1_3 else {"execution_whitelist": WHITELIST}
REGISTER = "register_new_resolver" if HYDRA_1_3 else "register_resolver"
getattr(OmegaConf, REGISTER)("output_dir", output_dir, replace=True)  # conf/ uses it
NEED_A_HEADER = ("experiment", "local")
HEADER = """a file of this group sets keys of others, so its first line is
# @package _global_
saved as UTF-8, without a byte order mark (BOM)"""


class ComposeError(UserError):
    """Hydra cannot compose a config. It stops at the first problem; a Checker finds the others."""


def compose(conf: Path, overrides: list[str], own_section: bool = False) -> DictConfig:
    """The config that Hydra would compose, with its `hydra` section if `own_section`.

    Raises ComposeError, or UserError if Hydra would run code that a config names.
    """
    refuse(searchpath_problems(conf, overrides))
    try:
        with initialized_hydra(conf):
            composed = hydra.compose("config", overrides, return_hydra_config=True)
        problems = hydra_problems(composed, conf, overrides)
    except Exception as error:  # TypeError, AssertionError, RecursionError …
        raise ComposeError(_composing_problem(error, conf)) from None
    refuse(problems)
    if not own_section:
        with open_dict(composed):
            del composed["hydra"]
    return composed


@contextlib.contextmanager
def initialized_hydra(conf: Path) -> Iterator[None]:
    """Initialize Hydra to compose from conf/; on exit, restore the instance that runs a sweep."""
    running = GlobalHydra.instance().hydra  # Hydra allows one instance
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf.resolve()), job_name=JOB_NAME, **VERSION_BASE):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def is_group(conf: Path, key: str) -> bool:
    """Whether an override of this key chooses a file: model=tiny does, training.lr=1 does not."""
    return (conf / key.split("@")[0].replace(".", "/")).is_dir()


def sets_value(conf: Path, override: str) -> bool:
    """Whether an override sets a key, rather than choose a file or delete."""
    prefix, key, value = split_override(override)
    return prefix != "~" and bool(value) and not is_group(conf, key)


def _composing_problem(error: Exception, conf: Path) -> str:
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
        found = "\n".join(broken_files(conf))
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
