"""record.json: the facts needed to understand and reproduce a run."""

import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from ..checkpoints.files import newest_checkpoint, read_about
from ..checkpoints.resume import differences
from ..compose.names import renames
from ..config import Config
from ..distributed.collectives import is_main
from ..errors import Stopped, UserError
from ..overrides import NOT_IDENTIFYING, leaves
from ..project import Project
from ..run_dir.code import DIFF, git_state, is_copy
from ..run_dir.paths import COMMAND, CONFIG, OVERRIDES, read_overrides, read_record, write_record

TIME = "%Y-%m-%dT%H:%M:%S%z"


def begin_record(
    project: Project, cfg: Config, run_dir: Path, made_of: dict[str, Any], init: dict[str, Any]
) -> None:
    """Write the record of an accepted run; a resumed run adds its changes since the checkpoint.

    `init` says which weights the run started from.
    """
    if not is_main():
        return
    values = cfg.model_dump()
    newest = newest_checkpoint(run_dir)
    about = read_about(newest) if newest else None
    then = renames(project.conf).to_compare(about["config"]) if about else {}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (run_dir / CONFIG).write_text(text, "utf-8")
    shutil.copy(run_dir / ".hydra" / OVERRIDES, run_dir / OVERRIDES)
    overrides = read_overrides(run_dir)
    now = values | made_of["identity"]
    git, diff = git_state(project.root)
    steps = [f"git checkout {git['commit']}"] if git.get("commit") else []
    if diff:
        (run_dir / DIFF).write_bytes(diff)
        steps.append(f"git apply --whitespace=nowarn {shlex.quote(str(run_dir / DIFF))}")
    installed = [it.metadata for it in distributions()]  # read once: `name` and `version` read it
    others = [o for o in overrides if o.partition("=")[0] not in NOT_IDENTIFYING]
    steps.append(shlex.join(["python", "train.py", *others]))
    entry = {
        "began": time.strftime(TIME),
        "state": "running",
        "from_iteration": about["progress"]["iteration"] if about else 0,
        "changed": differences(then | about["identity"], now) if about else [],
        "command": os.environ.get(COMMAND, shlex.join(sys.orig_argv)),
        "reproduce": " && ".join(steps),
        "overrides": overrides,
        "seeds": {k: v for k, v in leaves(values) if "seed" in k and k[:6] != "sweep."},
        "git": git,
        "code": os.path.relpath(project.root) if is_copy(project.root) else None,
        "init": init,
        **made_of,
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda,
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        },
        "packages": dict(sorted((str(it["Name"]), str(it["Version"])) for it in installed)),
    }
    before = read_record(run_dir)
    if before.get("packages") == entry["packages"]:
        del before["packages"]  # the same as now
    earlier = [*before.pop("earlier", []), before] if before else []
    write_record(run_dir, entry | {"earlier": earlier})


def note(run_dir: Path, **values: object) -> None:
    """Add values to the record of a run."""
    if is_main() and (record := read_record(run_dir)):
        write_record(run_dir, record | values)


@contextmanager
def recorded(run_dir: Path) -> Iterator[Callable[..., None]]:
    """Record how the run ends, unless it is killed; yields a function that adds values."""
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
        record = read_record(run_dir)
        if record.get("state") == "running" or (record and noted["state"] == "finished"):
            write_record(run_dir, record | {"ended": time.strftime(TIME)} | noted)
