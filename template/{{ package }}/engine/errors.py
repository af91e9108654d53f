"""Mistakes of the user's: a few lines on standard error and exit status 2, never a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """One or more problems that the user can mend, each told in full."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def told_plainly(at_most: int = 20) -> Iterator[None]:
    """Print the problems of a UserError and leave with status 2; with 130 after Ctrl-C."""
    try:
        yield
    except UserError as error:
        count = len(error.problems)
        print("1 problem:" if count == 1 else f"{count} problems:", file=sys.stderr)
        for problem in error.problems[:at_most]:
            # a data worker sends its error with a traceback before it
            problem = problem.rpartition("UserError: ")[2]
            print("  " + problem.replace("\n", "\n      "), file=sys.stderr)
        if count > at_most:
            print(f"  … and {count - at_most} more", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\ninterrupted; the same command with name=… goes on", file=sys.stderr)
        raise SystemExit(130) from None
