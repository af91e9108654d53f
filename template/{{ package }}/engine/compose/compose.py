"""Composes the config as Hydra does, before Hydra starts."""

import contextlib
import functools
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import UserError, refuse
from ..overrides import job_name, split_override
from ..run_dir.paths import output_dir
from .hydra_errors import composing_problem
from .hydra_section import JOB_NAME, WHITELIST, hydra_problems, searchpath_problems

# Hydra 1.3 warns without version_base, 1.4 with it; its OmegaConf renamed register_new_resolver
HYDRA_1_3 = hydra.__version__.startswith("1.3.")
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if HYDRA_1_3 else {}
HYDRA_MAIN = VERSION_BASE if HYDRA_1_3 else {"execution_whitelist": WHITELIST}
REGISTER = "register_new_resolver" if HYDRA_1_3 else "register_resolver"


def register_resolvers() -> None:
    """Register the resolvers that conf/ uses."""
    add = functools.partial(getattr(OmegaConf, REGISTER), replace=True)
    add("output_dir", output_dir)
    add("job_name", job_name)


def name_this_run() -> None:
    """Set RUN_NAME in the environment, so that child processes use the same name."""
    letters = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(4))
    os.environ.setdefault("RUN_NAME", f"{time.strftime('%Y%m%d-%H%M%S')}-{letters}")


class ComposeError(UserError):
    """Hydra cannot compose a config. It stops at the first problem; a Checker finds the others."""


def compose(conf: Path, overrides: list[str], own_section: bool = False) -> DictConfig:
    """The config that Hydra would compose, with its `hydra` section if `own_section`.

    Raises ComposeError, or UserError if Hydra would run code that a config names.
    """
    register_resolvers()
    refuse(searchpath_problems(conf, overrides))
    try:
        with initialized_hydra(conf):
            composed = hydra.compose("config", overrides, return_hydra_config=True)
        problems = hydra_problems(composed, conf, overrides)
    except Exception as error:  # TypeError, AssertionError, RecursionError …
        raise ComposeError(composing_problem(error, conf)) from None
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
    """Whether an override sets a project key, rather than choose a file, delete, or set Hydra's."""
    prefix, key, value = split_override(override)
    is_ours = not key.startswith(("hydra.", "hydra/")) and not is_group(conf, key)
    return is_ours and prefix != "~" and bool(value)
