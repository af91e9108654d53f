# Kept by the template; an update merges what you change here.
"""Mistakes of the user's: a few lines on standard error and exit status 2, never a traceback."""

import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MOST_SHOWN = 20
WORKER_DIED = """\
a process that reads the data died, often because memory ran out: try a smaller
training.num_workers, or 0 to see its own error; the same command with name= goes on"""


class UserError(Exception):
    """One or more problems that the user can mend, each told in full."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def refuse(problems: Iterable[str]) -> None:
    """Raises UserError with all of them, if there are any; each is told once."""
    if different := dict.fromkeys(problems):
        raise UserError(*different)


class Stopped(BaseException):
    """A signal asked the run to stop; what it had done is saved."""

    def __init__(self, signal_number: int, go_on: str = "") -> None:
        super().__init__(signal_number)
        self.signal = signal_number
        self.status = 128 + signal_number  # as a shell reports a command that a signal ended
        self.go_on = go_on


class JobFailed(Exception):
    """A job of a sweep has failed, and that has been told; the others may go on."""


@contextmanager
def told_plainly(one_of_many: bool = False) -> Iterator[None]:
    """Print the problems of a UserError and leave with status 2; after a signal, how to go on.

    For `one_of_many` jobs in this process, raises JobFailed instead of leaving.
    """
    try:
        yield
    except BrokenPipeError:  # … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        problems = error.problems if isinstance(error, UserError) else ()
        if "DataLoader worker (pid" in str(error):
            # torch raises this wherever the main thread happens to be: once is enough
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            problems = (f"{str(error).splitlines()[0]}\n{WORKER_DIED}",)
        if problems:
            _tell(problems)
            raise (JobFailed("\n".join(problems)) if one_of_many else SystemExit(2)) from None
        if one_of_many:
            traceback.print_exc()
        raise
    except Stopped as stopped:
        if stopped.go_on:
            print(f"to go on: {stopped.go_on}", file=sys.stderr)
        raise SystemExit(stopped.status) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _tell(problems: tuple[str, ...]) -> None:
    count = len(problems)
    print("1 problem:" if count == 1 else f"{count} problems:", file=sys.stderr)
    for problem in problems[:MOST_SHOWN]:
        # a data worker sends its error with a traceback before it
        problem = problem.rpartition("UserError: ")[2].rstrip()
        print("  " + problem.replace("\n", "\n      "), file=sys.stderr)
    if count > MOST_SHOWN:
        print(f"  … and {count - MOST_SHOWN} more", file=sys.stderr)
