"""The lock of a run's directory: one process trains there at a time. No torch here."""

import fcntl
import logging
import os
import socket
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from .. import find_part
from ..errors import UserError
from .paths import LOCK, read_record

log = logging.getLogger(__name__)

_locks: dict[Path, IO[str]] = {}


def lock(run: Path, takeover_seconds: float) -> None:
    """Lock a run's directory for this process, until it ends. Raises UserError if it is in use.

    A POSIX lock: the system releases it however the process ends, and data workers, which are
    forked, do not inherit it. A requeued Slurm job takes over from its earlier process.
    """
    path, slurm = (run / LOCK).resolve(), find_part("slurm")
    if path in _locks:
        return
    run.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    claim = partial(_claim, file, fcntl.LOCK_EX)
    try:
        by = claim()
        if by and slurm:
            by = slurm.take_over(run, file, by, takeover_seconds, claim)
    except OSError as error:  # no locks on this file system; a second call warns in train.log
        log.warning("%s: no locks here (%s); start no second run of this name", run, error.strerror)
        return
    refuse_holder(run, by)
    file.truncate(0)
    me = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%X')}"
    print(me + (slurm.describe_job() if slurm else ""), end="", file=file, flush=True)
    _locks[path] = file
    if slurm:
        slurm.make_way(path)


def refuse_holder(run: Path, other: str) -> None:
    """Raises UserError if there is another process, which trains in this directory."""
    if other:
        raise UserError(
            f"name = {run.name}: {run} is in use by {other}\n"
            "wait for that run or stop it, or give another name"
        )


def holder(run: Path) -> str:
    """The other process that trains in this directory, or empty."""
    path = (run / LOCK).resolve()
    if path not in _locks:  # closing the file would release it
        with suppress(OSError), path.open() as file:
            return _claim(file, fcntl.LOCK_SH)
    return ""


def state(run: Path) -> str:
    """The state of a run. A killed run is recorded as running, but does not hold the lock."""
    recorded = str(read_record(run).get("state", "unknown"))
    return "killed" if recorded == "running" and not holder(run) else recorded


def _claim(file: IO[str], kind: int) -> str:
    """Take a lock; return its other holder, or empty. Raises OSError where there are no locks."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        return file.read().strip() or "another process"
    return ""
