"""Ctrl-C, SIGTERM, SIGUSR1: the first finishes the iteration and saves, a second stops at once.

A cluster sends SIGUSR1 (to scripts/) or SIGUSR2 (to the jobs of submitit) before its time limit.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from typing import Any

from .errors import Stopped

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # a cluster may send one twice, to the job and its step
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)


class Stop:
    """Whether a signal has asked this run to stop; shared with its child processes."""

    def __init__(self) -> None:
        # shared memory without a lock: a handler may run while the main thread holds it
        self.shared: Any = get_context("spawn").RawArray("i", [0, 0])
        self.process = os.getpid()

    @property
    def signal(self) -> int:
        """The signal that requested a stop after this iteration, or 0."""
        return int(self.shared[0])

    def handle(self, number: int, _: object) -> None:
        """Record a signal; raises Stopped at the second one."""
        if os.getpid() != self.process:
            return  # a data worker that has just been forked
        if self.signal:
            if number not in WARNINGS:
                self.shared[1] = number
                raise Stopped(number)
            return
        self.shared[0] = number
        name = signal.Signals(number).name
        again = "" if number in WARNINGS else "; again: stops at once"
        # not print: the signal may have interrupted one
        os.write(2, f"\n{name}: finishes the iteration and saves{again}\n".encode())


@contextmanager
def handle_signals() -> Iterator[Stop]:
    """Within this context, SIGNALS set the Stop that it yields."""
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # after a stop request the process is about to exit: one more signal ends it
            ends = stop.signal and number != signal.SIGUSR2
            signal.signal(number, signal.SIG_DFL if ends else handler)


@contextmanager
def block_signals_in_children() -> Iterator[None]:
    """Block SIGNALS in processes started within this context, from their first instruction.

    They inherit the main thread's signal mask. In this process another thread receives the
    signals, and Python still handles them in the main thread.
    """
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    # multiprocessing's own process: it ignores the others, and starting it unblocks them
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ended.set()


def follow_parent(stop: Stop) -> None:
    """Leave SIGNALS to the parent process; exit once it has ended or received a second signal.

    Another thread watches, since the main one may be blocked in a call to C.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not stop.shared[1]:  # the second signal
            time.sleep(0.1)
        os._exit(1)

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def leave_signals_to_the_run(_: int) -> None:
    """Exit a data worker, which blocks SIGNALS, at a SIGTERM only if the run itself sends it."""

    def watch() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=watch, daemon=True).start()
    else:  # macOS: a SIGTERM to the process group ends the workers too
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
