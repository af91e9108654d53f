"""The terminal, by rich: colour, bars and tables. In a pipe or a file the same text is plain."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:  # rich is imported where something is shown
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

WIDE = 10_000  # columns where output is not a terminal: nothing wraps
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}
# each group is named after its style
HIGHLIGHTS = (
    r"(?P<bold>best \S+ -?[\d.]+(e[+-]\d+)?)",
    r"(: |· )\w+ (?P<bold>-?[\d.]+(e[+-]\d+)?)(?= ·|$)",
    r"^(?P<bold>results|next|table|page)\b",
    r"(: |^)(?P<green>finished|complete)\b",
    r": (?P<red>failed|in use|lost|timed out|cancelled|stopped)\b",
)


@cache
def console(fileno: int) -> "Console":
    """Standard output (1) or standard error (2). NO_COLOR and TERM=dumb are respected."""
    from rich.console import Console

    return Console(stderr=fileno == 2, width=None if os.isatty(fileno) else WIDE, **PLAIN)


class Handler(logging.StreamHandler[TextIO]):
    """Writes log records; on a terminal in colour, above the bars."""

    def format(self, record: logging.LogRecord) -> str:
        """Prefixes warnings with the word."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text

    def emit(self, record: logging.LogRecord) -> None:
        """Print above the bars on a terminal, elsewhere as logging does."""
        # the console's lock may have been held when a data worker, a daemon, was forked
        if not self.stream.isatty() or current_process().daemon:
            return super().emit(record)
        from rich.text import Text

        text = Text(self.format(record), STYLES.get(record.levelno, ""))
        for pattern in HIGHLIGHTS:
            text.highlight_regex(pattern)
        # a command must stay one line to be copied; a line of values wraps between them
        console(self.stream.fileno()).print(text, soft_wrap=" · " not in text.plain)


def shows_bars() -> bool:
    """Whether standard output is a terminal that can redraw a line."""
    return os.isatty(1) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@cache
def _bars() -> "Progress":
    from rich import progress as rich
    from rich.text import Text

    class Count(rich.MofNCompleteColumn):
        def render(self, task: rich.Task) -> Text:
            return Text() if task.total is None else super().render(task)

    return rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(bar_width=None),
        Count(),
        rich.TextColumn("{task.fields[note]}"),
        rich.TimeRemainingColumn(compact=True),
        console=console(1),
        disable=not shows_bars(),
        expand=True,
        refresh_per_second=4,
        speed_estimate_period=3600,  # seconds; by rich's 30 the time left would jump
        transient=True,
    )


@contextmanager
def bar(description: str, total: int | None, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show a bar below the existing ones, on a terminal only; yields a function to update it."""
    bars = _bars()
    is_first = not bars.task_ids
    task = bars.add_task(description, total=total, completed=done, note="")
    if is_first:
        bars.start()
        bars.console.show_cursor()  # it would stay hidden after a kill
    try:
        yield partial(bars.update, task)
    finally:
        bars.remove_task(task)
        if is_first:
            bars.stop()


def track(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    """Yield the items; show a bar on a terminal."""
    with bar(description, total) as update:
        for item in items:
            yield item
            update(advance=1)


def print_error(text: str, style: str = "") -> None:
    """Print a line to standard error, on a terminal in a style."""
    if sys.stderr.isatty():
        console(2).print(text, style=style, soft_wrap=True)
    else:
        print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value to standard output, also where all else goes to standard error."""
    from pydantic_core import to_json

    text = to_json(value, indent=2, inf_nan_mode="null", fallback=str).decode()
    file = sys.__stdout__ if sys.stdout is sys.stderr else sys.stdout
    print(text, file=file, flush=True)


def print_table(
    rows: Iterable[Sequence[str]], header: Sequence[str] = (), styles: Mapping[str, str] = {}
) -> None:
    """Print aligned rows; `styles` maps the text of a first cell to its style."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header))
    for first, *others in rows:
        table.add_row(Text(first, styles.get(first, "")), *map(Text, others))
    console(1).print(table)


def format_duration(seconds: float) -> str:
    """A readable duration: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 100 * 60:
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def format_values(values: Mapping[str, float]) -> str:
    """Names and values on one line: loss 0.0312 · lr 0.0001."""
    return " · ".join(f"{name} {value:.4g}" for name, value in values.items())
