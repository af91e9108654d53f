"""Sheets of items, each with text below it, such as those that a model finds hardest."""

import logging
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

DPI, GAP, LARGE = 100, 14, 14  # dots, as all sizes here
FONT, LETTER = "DejaVu Sans Mono", 0.602  # all letters have this width, relative to their size
# colours that the colour-blind can tell apart (Okabe and Ito)
MARKS = {True: ("✓ ", "#009E73"), False: ("✗ ", "#D55E00"), None: ("", "grey")}

Cell = tuple[np.ndarray, str, bool | None]
"""8-bit values, or a map of numbers 0 to 1; text; whether it is right, None if unknown."""


@contextmanager
def drawing(file: Path) -> Iterator[Any]:
    """A matplotlib figure, saved at the end; what fails is only logged."""
    try:
        from matplotlib.figure import Figure

        with warnings.catch_warnings(action="ignore"):  # its font has no Chinese, for one
            figure = Figure(dpi=DPI)
            yield figure
            figure.savefig(file, dpi=DPI)
    except Exception as error:  # it must not fail a run after hours of training
        log.warning("%s could not be drawn: %s", file.name, error)


def draw_sheet(
    file: Path, title: str, cells: Sequence[Cell], columns: int, width: int, height: int
) -> None:
    """Draw cells of this size, row by row; right and wrong ones have a mark and a colour."""
    size = min(LARGE, max(9, height // 8))
    texts = [wrap(MARKS[right][0] + text, width + GAP / 2, size) for _, text, right in cells]
    columns = min(columns, len(cells))
    page = max(400, columns * (width + GAP) + GAP)
    with drawing(file) as figure:
        axes = figure.add_axes((0, 0, 1, 1))

        def write(lines: list[str], left: float, top: float, size: int) -> float:
            look = {"family": FONT, "size": size * 72 / DPI, "parse_math": False}
            for number, line in enumerate(lines):
                axes.text(left, top + 1.3 * size * number, line, va="top", **look)
            return 1.3 * size * len(lines)

        top = GAP + write(wrap(title, page - 2 * GAP, LARGE), GAP, GAP, LARGE) + GAP
        for first in range(0, len(cells), columns):
            row, tallest = range(first, min(first + columns, len(cells))), 0.0
            for i in row:
                left = GAP + (i - first) * (width + GAP)
                draw_cell(axes, cells[i], left, top, width, height)
                tallest = max(tallest, write(texts[i], left, top + height + 5, size))
            top += height + tallest + 1.5 * GAP
        axes.set(xlim=(0, page), ylim=(top, 0))
        axes.axis("off")
        figure.set_size_inches(page / DPI, top / DPI)


def draw_cell(axes: Any, cell: Cell, left: float, top: float, width: int, height: int) -> None:
    """Draw the values of a cell in a frame: few enlarged by a whole factor, a map stretched."""
    values, _, right = cell
    is_map = values.dtype != np.uint8
    high, wide = (height, width) if is_map else values.shape[:2]
    scale = min(width / wide, height / high)
    scale = int(scale) if scale > 1 else scale
    x, y = left + (width - scale * wide) / 2, top + (height - scale * high) / 2
    look = {"cmap": "magma", "vmax": 1} if is_map else {"cmap": "gray", "vmax": 255}
    extent = (x, x + scale * wide, y + scale * high, y)
    axes.imshow(values, extent=extent, vmin=0, aspect="auto", **look)
    frame = [left - 2, left + width + 1], [top - 2, top + height + 1]
    colour = MARKS[right][1]
    axes.plot(np.take(frame[0], [0, 1, 1, 0, 0]), np.take(frame[1], [0, 0, 1, 1, 0]), color=colour)


def wrap(text: str, width: float, size: int) -> list[str]:
    """The lines of a text, each no wider than `width`, in letters of this size."""
    letters = int(width / (LETTER * size))
    return [part for line in text.split("\n") for part in textwrap.wrap(line, letters)]


def elide(name: str, most: int = 40) -> str:
    """A name of at most `most` letters: a longer one without its middle."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2) :]}"
