"""Composing the config as Hydra will, ahead of it; and what Hydra needs to know of us."""

import os
import secrets
import time
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from . import runs
from .aliases import Aliases

# Hydra 1.3 warns where version_base is missing, Hydra 1.4 where it is given
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}


def register(conf: Path) -> None:
    """Give conf/ its resolvers, and this process a name for its run."""
    for resolver in (runs.output_dir, runs.job_name):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    OmegaConf.register_new_resolver("aliases", lambda: Aliases(conf).table(), replace=True)
    # in the environment, so that every process which this one starts means the same run
    letters = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(4))
    os.environ.setdefault("RUN_NAME", f"{time.strftime('%Y%m%d-%H%M%S')}-{letters}")


def compose(conf: Path, overrides: list[str]) -> DictConfig:
    """The config that Hydra would compose, without its own section. Raises HydraException."""
    register(conf)
    with initialize_config_dir(str(conf.resolve()), **VERSION_BASE):
        return hydra.compose("config", overrides)


def jobs(overrides: list[str]) -> list[list[str]]:
    """The jobs of a sweep, each a list of overrides; of an interval, its two ends."""
    lists: list[list[str]] = [[]]
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            interval: Any = override.value()
            values = [f"{key}={interval.start}", f"{key}={interval.end}"]
        else:
            values = [override.input_line or ""]
        lists = [[*job, value] for job in lists for value in values]
    return lists
