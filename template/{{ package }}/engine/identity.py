"""What a run is made of: code, data, threads and versions, as digests that can be compared."""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch

from ..config import Config
from ..config.data import Split
from ..data import PACKAGES, open_items
from .devices import cores_here, device_count, pick_device
from .errors import UserError
from .manifest import fingerprint, read_manifest
from .resuming import TRAINED_ON, differences

log = logging.getLogger(__name__)

SAMPLE, CHUNK, THREADS = 200, 1000, 32
CHANGED = ("numbers of files", "names or order of files", "sizes of files", "contents of files")
INEXACT = "the weights will not be bit-identical to those of an uninterrupted run"


def identify(cfg: Config) -> dict[str, Any]:
    """What training with this config is made of here and now, as a checkpoint's manifest has it."""
    count, kind = device_count(cfg.training.run), pick_device(cfg.training.run.device).type
    on_cpu = torch.backends.cpu.get_cpu_capability
    alone = count == 1 or "OMP_NUM_THREADS" in os.environ
    return {
        "identity": {
            "code": code_digest(),
            "threads": str(torch.get_num_threads() if alone else cores_here() // count),
            "processes": str(count * cfg.training.processes.nodes),
            "device": torch.cuda.get_device_name() if kind == "cuda" else on_cpu(),
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", *PACKAGES)},
        },
        "data": {split: digest_split(cfg, split) for split in get_args(Split)},
    }


def code_digest() -> str:
    """The digest of all Python files of the package."""
    code = sorted(Path(__file__).parents[1].rglob("*.py"))
    return _short(digest(code, len(code)))


def digest_split(cfg: Config, split: Split) -> list[str] | None:
    """The digest of the files that a split is read from; None where it cannot be opened."""
    try:
        return digest(open_items(cfg, split).files(), SAMPLE)
    except Exception:  # whoever needs the split says why
        return None


def digest(files: Sequence[Path], sample: int) -> list[str]:
    """How many; and of names relative to a common folder, sizes, and contents of an even sample."""
    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100  # quick
    ends = [Path(path).parent for path in (min(paths), max(paths))] if paths else [Path()]
    folder = os.path.commonpath(ends)
    names = [path.removeprefix(folder) for path in paths]
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(THREADS) as threads:
        sizes = list(threads.map(lambda some: [file.stat().st_size for file in some], chunks))
        contents = list(threads.map(fingerprint, files[:: max(1, -(-len(files) // sample))]))
    return [str(len(files)), _short(names), _short(sizes), _short(contents)]


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def check_identity(cfg: Config, newest: Path, now: dict[str, Any]) -> list[str]:
    """What keeps a resumed run from being exact. Raises UserError where its data have changed."""
    then = read_manifest(newest)
    changed = changed_data(then, {split: now["data"].get(split) for split in TRAINED_ON})
    if changed and cfg.resume != "force":
        way_on = "give another name, or resume=force to continue with the data of now"
        raise UserError("\n".join([f"{newest} was trained on other data:", *changed, way_on]))
    changed += differences(then["identity"], now["identity"])
    return [f"{line}; {INEXACT}" for line in changed]


def changed_data(manifest: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lines on the splits whose files are not those of a checkpoint's run."""
    lines = []
    for split, new in now.items():
        old = manifest["data"].get(split)
        if old and new and old != new:
            what = next(w for w, a, b in zip(CHANGED, old, new, strict=True) if a != b)
            counts = f"{old[0]} files then, {new[0]} now"
            lines.append(f"data.{split} has changed since: {what} differ; {counts}")
    return lines


def warn_of_changed_data(cfg: Config, split: Split, checkpoint: Path) -> None:
    """Say so where a split is not as it was when the checkpoint was written."""
    for line in changed_data(read_manifest(checkpoint), {split: digest_split(cfg, split)}):
        log.warning("unlike the run: %s", line)
