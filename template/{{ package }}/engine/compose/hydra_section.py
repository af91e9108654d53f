"""Checks of Hydra's own section: it may hold values, but no code and no other output directory.

Hydra imports and calls what `_target_`, a logging `class` or `ext://` names, and writes to the
directories that it sets. Hydra 1.4's execution_whitelist refuses such code too.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from .. import see
from ..overrides import leaves, split_override
from ..run_dir.paths import Loader

TERMINAL_HANDLER = f"{__package__.removesuffix('.compose')}.terminal.Handler"
HANDLERS = (TERMINAL_HANDLER, "logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
# keys whose values logging imports or opens, with the values that Hydra and the template set
LOGGING: dict[str, tuple[str, ...]] = {
    "class": HANDLERS,
    "stream": STREAMS,
    "filename": ("${hydra.runtime.output_dir}/${hydra.job.name}.log",),
    "()": ("colorlog.ColoredFormatter",),
}
WHITELIST = [*HANDLERS, *(stream.removeprefix("ext://") for stream in STREAMS), *LOGGING["()"]]
LOGS = ("job_logging", "hydra_logging")
PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
MUST_BE_EMPTY = ("callbacks", "searchpath", "job.env_set", "job.env_copy")
JOB_NAME = "train"  # Hydra's name for train.py and its log, which composing resets

NO_CODE = "a config holds values, never code: Hydra would run it"
NO_PLACE = "runs_dir and name set where a run writes"
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "job.name": ((JOB_NAME,), NO_PLACE),
    "job.chdir": ((None, False), "paths are read from where train.py is started"),
    "run.dir": (("${output_dir:${mode},${runs_dir},${name},${checkpoint}}",), NO_PLACE),
    "sweep.dir": (("${runs_dir}/${name}",), NO_PLACE),
    "sweep.subdir": (("${hydra.job.num}",), NO_PLACE),
    "output_subdir": ((".hydra",), "expected .hydra, where a run's files are read"),
    "mode": ((None, RunMode.RUN), "give --multirun instead"),
}


def searchpath_problems(conf: Path, overrides: list[str]) -> Iterator[str]:
    """Problems of hydra.searchpath: Hydra imports its packages while it composes."""
    given = [o for o in overrides if split_override(o)[1].startswith("hydra.searchpath")]
    primary: Any = None
    with suppress(yaml.YAMLError, UnicodeDecodeError):  # composing it reports what is broken
        primary = yaml.load((conf / "config.yaml").read_text("utf-8"), Loader)
    section = primary.get("hydra") if isinstance(primary, dict) else None
    if isinstance(section, dict) and section.get("searchpath"):
        given.append(f"hydra.searchpath = {section['searchpath']}")
    for problem in given:
        yield f"{problem}: values come from conf/ alone; remove it"


def hydra_problems(composed: DictConfig, conf: Path, overrides: list[str]) -> list[str]:
    """Keys of the composed `hydra` section that run code or write elsewhere, with their places."""
    from .explain import find_origins

    raw: Any = OmegaConf.to_container(composed.hydra, resolve=False)
    problems = [
        f"hydra.{key}: expected what logging.config.dictConfig reads\n"
        f"from conf/hydra/{key}/{composed.hydra.runtime.choices.get(f'hydra/{key}')}.yaml"
        for key in LOGS
        if not _is_logging(raw, key)
    ]
    if problems or not (misuses := list(_misuses(composed.hydra, raw))):
        return problems
    origins = find_origins(conf, overrides, {})
    for key, value, why in misuses:
        within = f"hydra.{key}."  # a place of a section around it, or of a key in it
        near = [it for it in origins if within.startswith(f"{it}.") or it.startswith(within)]
        place = f"\nfrom {origins[near[-1]][-1].place}" if near else ""
        problems.append(f"hydra.{key} = {value}: {why}{place}")
    problems[-1] += see("config.md#safety")
    return problems


def _is_logging(section: Any, key: str) -> bool:
    try:
        handlers, root = section[key].get("handlers") or {}, section[key]["root"]
        known = all(isinstance(handler, dict) for handler in handlers.values())
        return root is None or (known and set(root.get("handlers") or []) <= set(handlers))
    except (AttributeError, KeyError, TypeError):
        return False


def _misuses(section: DictConfig, raw: Any) -> Iterator[tuple[str, Any, str]]:
    for key in MUST_BE_EMPTY:
        if value := OmegaConf.select(section, key):
            yield key, value, NO_CODE
    for key, value in leaves({log: raw[log] for log in LOGS}, within=dict | list):
        # logging imports or opens what these keys name, and what an address or interpolation does
        known = LOGGING.get(key.rpartition(".")[2])
        is_name = isinstance(value, str) and ("://" in value or "${" in value)
        if value not in (*known, None) if known else is_name:
            yield key, value, NO_CODE
    for key in ("launcher", "sweeper"):
        # Hydra also calls a _target_ that an interpolation resolves to
        resolved = OmegaConf.to_container(section[key], resolve=True)
        for inner, value in leaves(resolved, key, within=dict | list):
            is_plugin = inner == f"{key}._target_" and str(value).startswith(PLUGINS)
            if inner.endswith("._target_") and not is_plugin:
                yield inner, value, NO_CODE
    found = dict(leaves(raw))
    yield from ((k, found.get(k), why) for k, (it, why) in FIXED.items() if found.get(k) not in it)
