"""Tables: CSV files with a header. No torch here, since the checks before a run read them too."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .config.data import Spirals, Table
from .engine.errors import UserError


class Row(NamedTuple):
    """A row of a table."""

    line: str
    """Where it stands, for sed: its line, or the first and the last one of several."""
    cells: dict[str, str]
    """By column; empty if the row has another number of cells than the header."""
    features: list[float]
    answer: float
    """The number of the class, or the answer itself; NaN where there is none."""
    problem: str
    """What is wrong with it, if anything is."""

    @property
    def text(self) -> str:
        """Its cells, as one text."""
        return ",".join(self.cells.values())


def find_tables(folder: Path) -> list[Path]:
    """The tables of a folder."""
    return sorted(folder.glob("*.csv"))


def read_rows(path: Path, data: Spirals | Table, needs_answer: bool) -> Iterator[Row]:
    """The rows of a table with the columns that `data` names. Raises UserError without those."""
    reader = csv.reader(io.StringIO(read_text(path)), skipinitialspace=True)
    wanted = [*data.features, *([data.answer] if needs_answer else [])]
    try:
        header = next(reader, [])
        if wrong := header_problem(header, wanted):
            raise UserError(f"{path}:1: {wrong}")
        for row in filter(None, reader):
            first = reader.line_num - sum(cell.count("\n") for cell in row)
            line = f"{first},{reader.line_num}" if first < reader.line_num else f"{first}"
            cells = dict(zip(header, row, strict=False))
            features = [to_number(cells.get(name, "")) for name in data.features]
            answer = to_answer(cells.get(data.answer, ""), data)
            pairs, problem = zip(wanted, [*features, answer], strict=False), ""
            if len(row) != len(header):
                cells, problem = {}, f"{path}:{first}: {len(row)} cells; expected {len(header)}"
            elif unread := [name for name, number in pairs if math.isnan(number)]:
                is_class = unread[0] == data.answer and data.classes
                expected = "not in data.classes" if is_class else "expected a number"
                problem = f"{path}:{first}: {unread[0]} = {cells[unread[0]]}: {expected}"
            yield Row(line, cells, features, answer, problem)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None


def read_text(path: Path) -> str:
    """The text of a table. Raises UserError if it is not UTF-8."""
    try:
        return path.read_text("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        convert = "iconv -f latin1 -t utf-8 may convert the table"
        raise UserError(f"{path}:{line}: not UTF-8; {convert}") from None


def header_problem(header: list[str], wanted: list[str]) -> str:
    """What is wrong with the names of the columns, if anything is."""
    if not header:
        return "empty; expected the names of the columns"
    if len(header) == 1 and (marks := [mark for mark in (";", "\t") if mark in header[0]]):
        return f"cells with {marks[0]!r} between them; expected commas"
    if twice := [name for name in header if header.count(name) > 1]:
        return f"two columns of the name {twice[0]}"
    missing = [name for name in wanted if name not in header]
    return f"no column {missing[0]}; there are {', '.join(header)}" if missing else ""


def to_answer(text: str, data: Spirals | Table) -> float:
    """The number of a class, or the number that the text is; NaN for any other text."""
    if not data.classes:
        return to_number(text)
    return data.classes.index(text) if text in data.classes else math.nan


def to_number(text: str) -> float:
    """A finite number, or NaN for any other text."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
