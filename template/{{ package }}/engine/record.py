# Kept by the template; an update merges what you change here.
"""record.json: what is needed to understand a run later, and to do it again."""

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from ..config import Config
from . import runs
from .composing import PROJECT, leaves
from .errors import Stopped, UserError
from .manifest import newest_checkpoint, read_manifest
from .processes import is_main
from .resuming import differences

log = logging.getLogger(__name__)

DIFF = "uncommitted.diff"


def begin_record(cfg: Config, run_dir: Path) -> None:
    """Keep the config, the command line and the surroundings of a run that has been accepted.

    A run that goes on adds an entry to its record, with what has changed since its checkpoint.
    """
    if not is_main():
        return
    values = cfg.model_dump()
    newest = newest_checkpoint(run_dir)
    about = read_manifest(newest) if newest else None
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (run_dir / runs.CONFIG).write_text(text, "utf-8")
    shutil.copy(run_dir / ".hydra" / runs.OVERRIDES, run_dir / runs.OVERRIDES)
    overrides = runs.overrides(run_dir)
    git, diff = git_state()
    steps = [f"git checkout {git['commit']}"] if git.get("commit") else []
    if diff:
        (run_dir / DIFF).write_text(diff)
        steps.append(f"git apply {shlex.quote(str(run_dir / DIFF))}")
    others = [o for o in overrides if o.partition("=")[0] not in runs.NOT_IN_A_NAME]
    steps.append(shlex.join(["python", "train.py", *others]))
    entry = {
        "began": _now(),
        "state": "running",
        "from_iteration": about["progress"]["iteration"] if about else 0,
        "changed": differences(about["config"], values) if about else [],
        "command": os.environ.get(runs.COMMAND, shlex.join(sys.orig_argv)),
        "reproduce": " && ".join(steps),
        "overrides": overrides,
        "seeds": {k: v for k, v in leaves(values) if "seed" in k and k[:6] != "sweep."},
        "git": git,
        "hardware": _hardware(),
        "python": platform.python_version(),
        "packages": _packages(),
    }
    before = runs.read_record(run_dir)
    if before.get("packages") == entry["packages"]:
        del before["packages"]  # as later
    earlier = [*before.pop("earlier", []), before] if before else []
    _write(run_dir, entry | {"earlier": earlier})


@contextmanager
def recorded(run_dir: Path) -> Iterator[Callable[..., None]]:
    """Note how the run ends: finished, stopped or failed; one that is killed stays running.

    Yields a function that notes other things with it.
    """
    noted: dict[str, Any] = {"state": "failed"}
    try:
        yield noted.update
        noted["state"] = "finished"
    except Stopped:
        noted["state"] = "stopped"
        raise
    except UserError as error:
        noted["error"] = str(error)
        raise
    finally:
        record = runs.read_record(run_dir)
        if record.get("state") == "running" or (record and noted["state"] == "finished"):
            _write(run_dir, record | {"ended": _now()} | noted)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def git_state() -> tuple[dict[str, Any], str]:
    """Commit, branch and changed files of the project, and the difference to the commit."""
    if not (commit := _git("rev-parse", "HEAD")):
        return {}, ""
    state = {
        "commit": commit,
        "branch": _git("branch", "--show-current"),
        "uncommitted": _git("status", "--porcelain").splitlines(),
    }
    diff = _git("diff", "--binary", "HEAD")
    return state | ({"diff": DIFF} if diff else {}), f"{diff}\n" if diff else ""


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True)
    except OSError:
        return ""  # no git
    return done.stdout.strip("\n") if done.returncode == 0 else ""


def _hardware() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


@cache  # the jobs of a sweep share it
def _packages() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _write(run_dir: Path, record: dict[str, Any]) -> None:
    beside = run_dir / f".{runs.RECORD}"
    try:
        beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(run_dir / runs.RECORD)
    except OSError as error:  # a full disk
        log.warning("%s could not be written: %s", run_dir / runs.RECORD, error.strerror)
