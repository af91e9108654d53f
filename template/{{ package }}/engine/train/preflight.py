"""Checks of the machine that trains: device, precision, disk, limits, splits."""

import math
import resource
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from .. import find_part
from ..checkpoints.resume import meta_model
from ..config import Config
from ..data.loader import SHARED_MEMORY, first_batch, open_split
from ..distributed.devices import batch_size_problems, cores_here, device_count, precision_problems
from ..errors import UserError
from ..overrides import leaves
from ..parallel import resolve
from ..project import Project
from ..run_dir.paths import CHECKPOINTS


def machine_problems(project: Project, cfg: Config, run: Path) -> list[str]:
    """Problems of the device, its precision, the disk, and the limits on data workers."""
    training = cfg.training
    try:
        count = device_count(training.run)
    except UserError as error:
        return list(error.problems)
    nodes = cfg.engine.nodes
    known = nodes == 1 or training.run.devices != "auto"  # else once the nodes have met
    recompute, fsdp = find_part("train.recompute"), find_part("train.fsdp")
    return [
        *precision_problems(training.run),
        *(recompute.find_problems(project, cfg) if recompute else ()),
        *(batch_size_problems(training, count * nodes) if known else ()),
        *disk_problems(project, cfg, run),
        *(fsdp.find_problems(project, cfg, count * nodes) if fsdp else ()),
        *worker_problems(min(training.loader.num_workers, cores_here())),
    ]


def disk_problems(project: Project, cfg: Config, run: Path) -> Iterator[str]:
    """A problem if the disk has no room for the kept checkpoints and one being written."""
    size = checkpoint_bytes(project, cfg)
    there = sum(f.stat().st_size for f in (run / CHECKPOINTS).rglob("*") if f.is_file())
    kept = cfg.training.checkpoint.keep_last + 2  # the best one, and the one being written
    place = next(path for path in (run, *run.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free + there < kept * size:
        yield (
            f"runs_dir = {cfg.runs_dir}: {free / 1e9:.3g} GB free, but {kept} checkpoints of "
            f"{size / 1e9:.3g} GB each need {kept * size / 1e9:.3g}\n"
            "make room, choose another runs_dir, or a smaller training.checkpoint.keep_last"
        )


def checkpoint_bytes(project: Project, cfg: Config) -> int:
    """The approximate size of a checkpoint: weights and AdamW's two moments."""
    return int(3 * sum(tensor.nbytes for tensor in meta_model(project, cfg).state_dict().values()))


def worker_problems(workers: int, batch: int = 0) -> Iterator[str]:
    """Problems if limits here are too low for data workers with batches of `batch` bytes."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    key = f"training.loader.num_workers = {workers}: "
    if files < (needed := 64 + 24 * workers):  # pipes, and each tensor of its two batches
        yield f"{key}about {needed} open files, {files} are allowed\nulimit -n 4096 allows more"
    memory = Path("/dev/shm")
    free = shutil.disk_usage(memory).free if memory.is_dir() else math.inf
    if free < (needed := 2 * workers * batch):
        there = f"{free / 1e6:.3g} MB free, {needed / 1e6:.3g} needed"
        yield f"{key}/dev/shm has {there}\n{SHARED_MEMORY}"


def compare_splits(project: Project, cfg: Config, run: Path) -> tuple[list[str], list[str]]:
    """Problems of splits that share files with the training split; warnings of others that do.

    Also problems of a stream that this run trains on. Raises UserError if a split is empty.
    """
    files, problems, warnings = {}, [], []
    given = resolve([value for _, value in leaves(cfg.data.model_dump()) if isinstance(value, str)])
    for split in project.splits(cfg):
        items = open_split(project, cfg, split)
        if split == "train" and (part := find_part("data.stream")):
            problems += part.find_problems(items, cfg, run)
        paths = list(map(str, items.files()))
        # splits may share files that hold many items each, such as a list that the config names
        files[split] = resolve(paths) - given if len(paths) >= len(items) else set()
    for one, other in combinations(files, 2):
        if shared := files[one] & files[other]:
            text = f"data: {one} and {other} share {len(shared)} files, as {min(shared)}"
            if one == "train":
                problems.append(f"{text}; expected splits without common items")
            else:
                warnings.append(text)
    return problems, warnings


def batch_problems(project: Project, cfg: Config) -> Iterator[str]:
    """Problems of splits whose first batch fails, and of batches too large for data workers."""
    largest = 0
    for split in project.splits(cfg):
        try:
            batch = first_batch(project, cfg, split)
            largest = max(largest, sum(tensor.nbytes for tensor in batch.values()))
        except UserError as error:
            yield from error.problems
    workers = min(cfg.training.loader.num_workers, cores_here()) * device_count(cfg.training.run)
    yield from worker_problems(workers, largest)
