"""User errors: a few lines on standard error and exit status 2, never a traceback."""

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .terminal import print_error

MOST_SHOWN = 20
LONGEST_LINE = 400
WITHOUT = (
    "this project was rendered without {0}\ncopier update --defaults -d 'parts=[{0}, …]' adds it"
)
PACKAGE = str(Path(__file__).parents[1])
WORKER_DIED = """\
a data worker died, often because memory ran out: try a smaller training.num_workers, or 0 to see
its own error; the same command with name= resumes"""


class UserError(Exception):
    """One or more problems that the user can fix, each reported in full."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def refuse(problems: Iterable[str]) -> None:
    """Raises UserError with all of them, each once, if there are any."""
    if different := dict.fromkeys(problems):
        raise UserError(*different)


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean …?`, if one of the words is similar."""
    near = difflib.get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""


class Stopped(BaseException):
    """A signal asked the run to stop; its progress is saved."""

    def __init__(self, signal_number: int, resume_command: str = "") -> None:
        super().__init__(signal_number)
        self.signal = signal_number
        self.resume_command = resume_command


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print the problems of a UserError and exit with status 2; after a signal, how to resume."""
    try:
        yield
    except BrokenPipeError:  # … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(141) from None
    except Exception as error:
        problems = error.problems if isinstance(error, UserError) else ()
        if "DataLoader worker (pid" in str(error):
            # torch raises this anywhere in the main thread, for each worker: once is enough
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            problems = (f"{str(error).splitlines()[0]}\n{WORKER_DIED}",)
        if isinstance(error, OSError | MemoryError) or "failed to map" in str(error):
            problems = (_system_problem(error),)
        if not problems:
            raise
        _print_problems(problems)
        raise SystemExit(2) from None
    except Stopped as stopped:
        if stopped.resume_command:
            print(f"resume with: {stopped.resume_command}", file=sys.stderr)
        # as a shell reports a command that a signal ended
        raise SystemExit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _system_problem(error: Exception) -> str:
    """The system's error, and the line of this package that caused it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"\nat {f.filename}:{f.lineno}" for f in frames if f.filename.startswith(PACKAGE)]
    what = "memory ran out"
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return what + "".join(ours[-1:])


def _printable(line: str) -> str:
    """A line without control characters, cut where it is very long."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e]", lambda found: ascii(found[0])[1:-1], line)
    return plain if len(plain) <= LONGEST_LINE else f"{plain[:LONGEST_LINE]}…"


def _print_problems(problems: tuple[str, ...]) -> None:
    count = len(problems)
    print_error("1 problem:" if count == 1 else f"{count} problems:", style="bold red")
    for problem in problems[:MOST_SHOWN]:
        # an error from a data worker follows a traceback
        first, *others = problem.rpartition("UserError: ")[2].rstrip().split("\n")
        print_error(f"  {_printable(first)}")
        for line in others:
            print_error(f"      {_printable(line)}")
    if count > MOST_SHOWN:
        print_error(f"  … and {count - MOST_SHOWN} more")
