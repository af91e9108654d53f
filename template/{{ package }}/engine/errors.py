"""Mistakes of the user's: a few lines on standard error and exit status 2, never a traceback."""

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_SHOWN = 20
LONGEST_LINE = 400
PACKAGE = str(Path(__file__).parents[1])
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


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean …?`, where there is anything like it."""
    near = difflib.get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""


class Stopped(BaseException):
    """A signal asked the run to stop; what it had done is saved."""

    def __init__(self, signal_number: int, go_on: str = "") -> None:
        super().__init__(signal_number)
        self.signal = signal_number
        self.status = 128 + signal_number  # as a shell reports a command that a signal ended
        self.go_on = go_on


class JobFailed(Exception):
    """A job of a sweep has not finished, and that has been printed; the others may go on."""

    def __init__(self, said: str, state: str = "failed") -> None:
        super().__init__(said)
        self.state = state


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
        if isinstance(error, OSError | MemoryError) or "failed to map" in str(error):
            problems = _system_problem(error)
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


def _system_problem(error: Exception) -> tuple[str, ...]:
    """What the system refused, and the line of this project that asked for it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"\nat {f.filename}:{f.lineno}" for f in frames if f.filename.startswith(PACKAGE)]
    what = "memory ran out"
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return (what + "".join(ours[-1:]),)


def _shown(line: str) -> str:
    """A line without control characters, cut where it is very long."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e]", lambda found: ascii(found[0])[1:-1], line)
    return plain if len(plain) <= LONGEST_LINE else f"{plain[:LONGEST_LINE]}…"


def _tell(problems: tuple[str, ...]) -> None:
    count = len(problems)
    print("1 problem:" if count == 1 else f"{count} problems:", file=sys.stderr)
    for problem in problems[:MOST_SHOWN]:
        # a data worker sends its error with a traceback before it
        problem = problem.rpartition("UserError: ")[2].rstrip()
        print("  " + "\n      ".join(map(_shown, problem.split("\n"))), file=sys.stderr)
    if count > MOST_SHOWN:
        print(f"  … and {count - MOST_SHOWN} more", file=sys.stderr)
