"""What must hold before a run: data, tracker, checkpoint, device, disk, git; and mode=check."""

import configparser
import importlib.util
import math
import netrc
import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..checks import METRICS, check_data, check_input, data_notes
from ..config import Config
from ..config.data import Split
from ..config.tracker import MLflow, Tracker, WeightsAndBiases
from . import manifest, runs
from .composing import PROJECT
from .errors import UserError, refuse
from .files import resolve
from .resuming import check_resume, misfit, weights_without_memory

SQLITE = "sqlite:///"
SHARED_MEMORY = """\
batches of data workers go through /dev/shm: make it larger (docker run --shm-size=8g), or choose
fewer training.num_workers (0 needs none) or a smaller training.batch_size"""


def file_problems(cfg: Config) -> Iterator[str]:
    """What is wrong with the files and accounts that this mode needs, found without torch."""
    objective = cfg.training.objective
    if objective.metric not in METRICS:
        expected = ", ".join(METRICS)
        yield f"training.objective.metric = {objective.metric}: expected one of {expected}"
    trains = cfg.mode in ("train", "check")
    if trains and cfg.init and not manifest.list_checkpoints(Path(cfg.runs_dir, cfg.name)):
        yield from checkpoint_problems(cfg, cfg.init, "init")
    if cfg.checkpoint and cfg.mode != "train":
        yield from checkpoint_problems(cfg, cfg.checkpoint, "checkpoint")
    if trains and (problem := tracker_problem(cfg.tracker)):
        yield problem
    yield from check_data(cfg)
    if cfg.mode == "recognize" or (cfg.mode == "check" and cfg.input):
        yield from check_input(cfg)


def checkpoint_problems(cfg: Config, path: str, key: str) -> list[str]:
    """Whether the weights that a key names are there, sound, and of this config's model."""
    try:
        return misfit(cfg, manifest.find_checkpoint(Path(path), key), f"{key} = {path}")
    except UserError as error:
        return list(error.problems)


def tracker_problem(tracker: Tracker) -> str | None:
    """What keeps the tracker from working, found without importing it."""
    if tracker.kind != "none" and not importlib.util.find_spec(tracker.kind):
        return (
            f"tracker = {tracker.kind}: the package {tracker.kind} is missing\n"
            f"pip install -e '.[{tracker.kind}]'"
        )
    if isinstance(tracker, WeightsAndBiases) and tracker.mode == "online" and not _wandb_key():
        return (
            "tracker = wandb: no key for it\n"
            "set WANDB_API_KEY, or `wandb login`, or tracker.mode=offline, or tracker=none"
        )
    return _mlflow_problem(tracker) if isinstance(tracker, MLflow) else None


def _wandb_key() -> bool:
    """Whether there is a key where W&B looks; `wandb login` writes it to a netrc file."""
    variables, home = os.environ, Path.home()
    if variables.get("WANDB_API_KEY") or variables.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    noted = configparser.RawConfigParser()  # where `wandb login --host` keeps the server's name
    folder = variables.get("WANDB_CONFIG_DIR", home / ".config" / "wandb")
    files = [Path(variables.get("NETRC", home / ".netrc")).expanduser(), home / "_netrc"]
    with suppress(OSError, netrc.NetrcParseError, configparser.Error):
        noted.read(Path(folder, "settings"))
        url = noted.get("default", "base_url", fallback="https://api.wandb.ai")
        server = urlsplit(variables.get("WANDB_BASE_URL", url)).netloc
        return any(netrc.netrc(file).authenticators(server) for file in files if file.exists())
    return False


def _mlflow_problem(tracker: MLflow) -> str | None:
    told = f"tracker.uri = {tracker.uri}"
    ways = "(mlflow server --port 5000), or a file: tracker.uri=sqlite:///mlflow.db"
    neither = f"{told}: expected http://HOST:PORT of a server {ways}"
    try:
        uri = urlsplit(tracker.uri)
        port = uri.port or (443 if uri.scheme == "https" else 80)
    except ValueError:
        return neither
    if uri.scheme == "sqlite":
        file = Path(tracker.uri.removeprefix(SQLITE).partition("?")[0]).absolute()
        if not tracker.uri.startswith(SQLITE) or not os.access(file.parent, os.W_OK):
            return f"{told}: expected sqlite:///FILE, in a folder that you may write to"
        if file.exists() and not _is_sqlite(file):
            return f"{told}: expected a new file or one of SQLite's; this is something else"
        return None
    if uri.scheme in ("http", "https") and uri.hostname:
        if uri.scheme in getproxies() and not proxy_bypass(uri.hostname):
            return None  # the proxy reaches it, or nobody does
        try:
            socket.create_connection((uri.hostname, port), tracker.timeout_seconds).close()
        except (OSError, UnicodeError) as error:
            return f"{told}: no server answers there ({error})\nstart one {ways}, or tracker=none"
        return None
    stores = {"postgresql", "mysql", "mssql", "databricks", "uc"}
    stores |= {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    return None if uri.scheme.partition("+")[0] in stores else neither


def _is_sqlite(file: Path) -> bool:
    # MLflow itself would try a file that is none for minutes
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(16) in (b"", b"SQLite format 3\0")


def machine_problems(cfg: Config, run: Path) -> list[str]:
    """Device, precision, disk and limits of the machine that will train. Imports torch."""
    from .devices import batch_problem, cores_here, device_count, precision_problem

    training = cfg.training
    try:
        count = device_count(training.run)
    except UserError as error:
        return list(error.problems)
    nodes = training.processes.nodes
    known = nodes == 1 or training.run.devices != "auto"  # else when the nodes have met
    problems = [
        precision_problem(training.run),
        batch_problem(training, count * nodes) if known else None,
        disk_problem(cfg, run),
        worker_problem(min(training.loader.num_workers, cores_here())),
    ]
    return [problem for problem in problems if problem]


def disk_problem(cfg: Config, run: Path) -> str | None:
    """Whether the checkpoints that are kept fit on the disk, beside one being written."""
    size = checkpoint_bytes(cfg)
    there = sum(f.stat().st_size for f in (run / manifest.CHECKPOINTS).rglob("*") if f.is_file())
    kept = cfg.training.checkpoint.keep_last + 2  # the best one, and the one being written
    place = next(path for path in (run, *run.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free + there >= kept * size:
        return None
    return (
        f"runs_dir = {cfg.runs_dir}: {free / 1e9:.3g} GB free, but {kept} checkpoints of "
        f"{size / 1e9:.3g} GB each need {kept * size / 1e9:.3g}\n"
        "make room, choose another runs_dir, or a smaller training.checkpoint.keep_last"
    )


def worker_problem(workers: int, batch: int = 0) -> str | None:
    """Whether the limits here suffice for data workers, and batches of so many bytes each."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    key = f"training.loader.num_workers = {workers}: "
    if files < (needed := 64 + 24 * workers):  # pipes, and each tensor of its two batches
        return f"{key}about {needed} open files, {files} are allowed\nulimit -n 4096 allows more"
    memory = Path("/dev/shm")
    free = shutil.disk_usage(memory).free if memory.is_dir() else math.inf
    if free >= (needed := 2 * workers * batch):
        return None
    return f"{key}/dev/shm has {free / 1e6:.3g} MB free, {needed / 1e6:.3g} needed\n{SHARED_MEMORY}"


def split_problems(cfg: Config) -> Iterator[str]:
    """Splits that are empty, or that share files with what is trained on. Imports torch."""
    from .loaders import open_split

    files = {}
    for split in _splits(cfg):
        items = open_split(cfg, split)
        paths = list(map(str, items.files()))
        # files of many items each may serve several splits
        files[split] = resolve(paths) if len(paths) >= len(items) else set()
    for one, other in combinations(files, 2):
        if shared := files[one] & files[other]:
            told = f"data: {one} and {other} share {len(shared)} files, as {min(shared)}"
            if one == "train":
                yield f"{told}; expected splits without common items"
            else:
                print(f"warning: {told}", file=sys.stderr)


def batch_problems(cfg: Config) -> Iterator[str]:
    """Splits of which no batch can be read, and batches too large for data workers."""
    from .devices import cores_here, device_count
    from .loaders import first_batch

    largest = 0
    for split in _splits(cfg):
        try:
            batch = first_batch(cfg, split)
            largest = max(largest, sum(tensor.nbytes for tensor in batch.values()))
        except UserError as error:
            yield from error.problems
    workers = min(cfg.training.loader.num_workers, cores_here()) * device_count(cfg.training.run)
    yield from filter(None, [worker_problem(workers, largest)])


def _splits(cfg: Config) -> list[Split]:
    """The splits that a run reads, and with mode=check an evaluation."""
    held_out = cfg.data.held_out if cfg.mode == "check" else "valid"
    return list(dict.fromkeys(["train", "valid", held_out]))


def checkpoint_bytes(cfg: Config) -> int:
    """About how large a checkpoint of this model is: weights and the optimizer's moments."""
    tensors = weights_without_memory(cfg).values()
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return weights * (2 if cfg.training.optim.name == "sgd" else 3)


def report(cfg: Config, found: list[str]) -> None:
    """mode=check: all that a run would look at, more of it, and the rules. Raises UserError."""
    from .identity import check_identity, identify
    from .rules import findings

    run = Path(cfg.runs_dir, cfg.name)
    broken = findings(PROJECT, options=False)  # with torch in memory it would take twice as long
    problems = [*found, *machine_problems(cfg, run)]
    warnings = list(_warnings(run))
    try:
        runs.check_unlocked(run)
        check_resume(cfg, run)
        if newest := manifest.newest_checkpoint(run):
            warnings += check_identity(cfg, newest, identify(cfg))
    except UserError as error:
        problems += error.problems
    problems += [str(it) for it in broken if it.rule != "advice"]
    advice = [f"{it.place}: {it.wrong}\n    {it.way_out}" for it in broken if it.rule == "advice"]
    if not found:  # else they would fail for what is told already
        problems += batch_problems(cfg)
        problems += [] if problems else split_problems(cfg)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    for line in advice:
        print(f"advice: {line}", file=sys.stderr)
    refuse(problems)
    print(*_good(cfg, run), sep="\n")


def _warnings(run: Path) -> Iterator[str]:
    from .record import git_state

    git, _ = git_state()
    if not git:
        yield "no git commit here: record.json cannot say which code a run is made of"
    elif git["uncommitted"]:
        count = len(git["uncommitted"])
        yield f"{count} files are not committed (git status); record.json keeps the difference"
    yield from manifest.list_damages(run)


def _good(cfg: Config, run: Path) -> Iterator[str]:
    from .devices import device_count, pick_device

    training = cfg.training
    count, size = device_count(training.run), checkpoint_bytes(cfg)
    newest = manifest.newest_checkpoint(run)
    going_on = f"goes on from {newest.name}" if newest else "begins at iteration 1"
    yield "config      every value is there and in range"
    yield "rules       kept; make lint looks at every option of conf/ as well"
    splits = ", ".join(_splits(cfg))
    yield f"data        {cfg.data.kind}: as it should be; a batch of each of {splits} was read"
    for note in data_notes(cfg):
        yield f"            {note}"
    yield f"device      {count} × {pick_device(training.run.device)}, {training.run.precision}"
    yield f"disk        checkpoints of about {size / 1e6:.3g} MB, room for those that are kept"
    yield f"tracker     {cfg.tracker.kind}"
    yield f"run         {run}: {going_on}"
