"""The lock of a run's directory: one process trains there at a time. No torch here."""

import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..errors import UserError
from .paths import LOCK, read_record

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5

_locks: dict[Path, IO[str]] = {}


def lock(run: Path, takeover_seconds: float) -> None:
    """Lock a run's directory for this process, until it ends. Raises UserError if it is in use.

    A POSIX lock: the system releases it however the process ends, and data workers, which are
    forked, do not inherit it. A requeued Slurm job whose earlier process lives on, on a node that
    was lost, asks it to save and leave, and waits for it.
    """
    path = (run / LOCK).resolve()
    if path in _locks:
        return
    run.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    me = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%X')}"
    if job := os.environ.get("SLURM_JOB_ID"):
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
        me += f", Slurm job {job}, start {start}"
    try:
        by = _claim(file, fcntl.LOCK_EX)
        if job and f", Slurm job {job}, " in by and not by.endswith(f" {start}"):
            print(f"waiting for {by}, to save and leave {run}", file=sys.stderr)
            print(file=file, flush=True)  # which it looks for
            until = time.monotonic() + takeover_seconds
            while by and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
                by = _claim(file, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems have none; not kept, so a log gets it too
        log.warning("%s: no locks here (%s); start no second run of this name", run, error.strerror)
        return
    if by:
        raise _in_use(run, by)
    file.truncate(0)
    print(me, end="", file=file, flush=True)
    _locks[path] = file
    if job:
        threading.Thread(target=_make_way, args=(path, file), daemon=True).start()


def _make_way(path: Path, file: IO[str]) -> None:
    """Stop this process, as SIGTERM does, once the same Slurm job waits for its directory."""
    size = path.stat().st_size
    while _locks.get(path) is file:
        if path.exists() and path.stat().st_size > size:
            log.warning("this Slurm job was requeued and waits for %s", path.parent)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(POLL_SECONDS)


def unlock(run: Path) -> None:
    """Release the lock before the process ends."""
    if file := _locks.pop((run / LOCK).resolve(), None):
        file.close()


def check_unlocked(run: Path) -> None:
    """Raises UserError if another process trains in this directory."""
    if other := holder(run):
        raise _in_use(run, other)


def holder(run: Path) -> str:
    """The other process that trains in this directory, or nothing."""
    path = (run / LOCK).resolve()
    if path not in _locks:  # closing the file would release it
        with suppress(OSError), path.open() as file:
            return _claim(file, fcntl.LOCK_SH)
    return ""


def state(run: Path) -> str:
    """How a run ended. Where a killed one stays recorded as running, the lock tells them apart."""
    recorded = str(read_record(run).get("state", "unknown"))
    return "killed" if recorded == "running" and not holder(run) else recorded


def _claim(file: IO[str], kind: int) -> str:
    """Take a lock; return who has it, or nothing. Raises OSError where there are no locks."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        return file.read().strip() or "another process"
    return ""


def _in_use(run: Path, by: str) -> UserError:
    return UserError(
        f"name = {run.name}: {run} is in use by {by}\n"
        "wait for that run or stop it, or give another name"
    )
