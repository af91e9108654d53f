"""The identity of a run: code, data, threads and versions, as digests that can be compared."""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch

from ..config import Config, Split
from ..distributed.devices import cores_here, device_count, pick_device
from ..errors import UserError
from ..parallel import for_each
from ..project import Project
from .files import fingerprint, read_about
from .resume import RESUMING, TRAINED_ON, differences

PACKAGE = Path(__file__).parents[2]
SAMPLE = 200  # files whose contents are compared: all of a large dataset would take minutes
PARTS = ("numbers of files", "names or order of files", "sizes of files", "contents of files")
INEXACT = "the weights will not be bit-identical to those of an uninterrupted run"


def identify(project: Project, cfg: Config) -> dict[str, Any]:
    """The identity of a run of this config on this machine, as checkpoint.json stores it."""
    count, kind = device_count(cfg.training.run), pick_device(cfg.training.run.device).type
    on_cpu = torch.backends.cpu.get_cpu_capability
    # as copies of it have them, without hidden folders
    code = sorted(it for it in PACKAGE.rglob("*.py") if "/." not in str(it.relative_to(PACKAGE)))
    alone = count == 1 or "OMP_NUM_THREADS" in os.environ
    return {
        "identity": {
            "code": _short_digest(digest(code, len(code))),
            "threads": str(torch.get_num_threads() if alone else cores_here() // count),
            "processes": str(count * cfg.engine.nodes),
            **cfg.training.model_dump(include={"parallel"}),  # which the part fsdp has
            "device": torch.cuda.get_device_name() if kind == "cuda" else on_cpu(),
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", *project.packages)},
        },
        "data": {split: digest_split(project, cfg, split) for split in get_args(Split)},
    }


def digest_split(project: Project, cfg: Config, split: Split) -> list[str] | None:
    """The digest of the files that a split is read from; None if it cannot be opened."""
    try:
        return digest(project.open_items(cfg, split).files(), SAMPLE)
    except Exception:  # the code that needs the split reports why
        return None


def digest(files: Sequence[str | Path], sample: int) -> list[str]:
    """The number of files; digests of their relative names, of sizes, and of sampled contents."""
    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100  # quick
    ends = [Path(path).parent for path in (min(paths), max(paths))] if paths else [Path()]
    folder = os.path.commonpath(ends)
    names = [path.removeprefix(folder) for path in paths]
    sizes = for_each(os.path.getsize, paths)
    step = max(1, -(-len(paths) // sample))
    contents = for_each(lambda path: fingerprint(Path(path)), paths[::step])
    return [str(len(files)), _short_digest(names), _short_digest(sizes), _short_digest(contents)]


def _short_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def check_identity(cfg: Config, newest: Path, now: dict[str, Any]) -> list[str]:
    """Why a resumed run will not be bit-identical, a line each. Raises UserError for other data."""
    then = read_about(newest)
    changed = changed_data(then, {split: now["data"].get(split) for split in TRAINED_ON})
    if changed and cfg.resume != "force":
        way_out = f"give another name, or resume=force to continue with the data of today{RESUMING}"
        raise UserError("\n".join([f"{newest} was trained on other data:", *changed, way_out]))
    changed += differences(then["identity"], now["identity"])
    return [f"{line}; {INEXACT}" for line in changed]


def changed_data(about: dict[str, Any], now: dict[Split, list[str] | None]) -> list[str]:
    """A line for each split whose files differ from those that checkpoint.json recorded."""
    lines = []
    for split, new in now.items():
        old = about["data"].get(split)
        if old and new and old != new:
            what = next(w for w, a, b in zip(PARTS, old, new, strict=True) if a != b)
            counts = f"{old[0]} files then, {new[0]} now"
            lines.append(f"data.{split} has changed since: {what} differ; {counts}")
    return lines
