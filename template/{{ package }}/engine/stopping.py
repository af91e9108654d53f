# Kept by the template; an update merges what you change here.
"""Ctrl-C, SIGTERM and SIGUSR1: the first lets the iteration end and be saved, a second does not."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from types import FrameType
from typing import Any, Self, TypeVar

from .errors import Stopped

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether a signal has asked this run to stop; shared with the processes that it starts."""

    def __init__(self) -> None:
        # shared memory without a lock: a handler may run while the main thread would hold one
        self.shared: Any = get_context("spawn").RawArray("i", [0, 0])
        self.process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def signal(self) -> int:
        """The signal that asked, or 0."""
        return int(self.shared[0])

    def is_set(self) -> bool:
        """Whether to stop after this iteration."""
        return bool(self.shared[0])

    def at_once(self) -> bool:
        """Whether a second signal has come."""
        return bool(self.shared[1])

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # once asked to stop, the process is about to end: one more signal just ends it
            signal.signal(number, signal.SIG_DFL if self.is_set() else handler)

    def __getstate__(self) -> dict[str, Any]:
        return {"shared": self.shared, "process": self.process, "_before": {}}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            return  # a data worker that has just been forked
        if self.is_set():
            self.shared[1] = number
            raise Stopped(number)
        self.shared[0] = number
        name = signal.Signals(number).name
        # not print: the signal may have come in the middle of one
        os.write(2, f"\n{name}: finishes the iteration and saves; again: stops at once\n".encode())


def until(stop: Stop, items: Iterable[T]) -> Iterator[T]:
    """The items, but after the first one no more than have come when the run is asked to stop."""
    for item in items:
        yield item
        if stop.is_set():
            return


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started meanwhile get none of these signals, from their first instruction.

    They inherit what the main thread blocks. Here another thread receives the signals, and Python
    handles them in the main thread all the same.
    """
    resource_tracker.ensure_running()  # it would unblock them when a process is started
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ended.set()


def ignore_signals() -> None:
    """In one of several processes: the one that started them decides, and tells them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave_signals_to_the_run(_: int) -> None:
    """In a data worker, which blocks SIGNALS: leave by SIGTERM, if the run itself sends it."""
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_leave_when_the_run_says_so, daemon=True).start()
    else:  # macOS: a SIGTERM for all takes the workers too
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _leave_when_the_run_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
