"""Tables: CSV files with a header. No torch here, since the checks before a run read them too."""

import csv
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
    """By column; empty if the row is not UTF-8 or has another number of cells than the header."""
    features: list[float]
    answer: float
    """The number of the class, or the answer itself; NaN where there is none."""
    problem: str
    """What is wrong with it, if anything is; then it has neither features nor answer."""

    @property
    def text(self) -> str:
        """Its cells, as one text."""
        return ",".join(self.cells.values())


def find_tables(folder: Path) -> list[Path]:
    """The tables of a folder."""
    return sorted(folder.glob("*.csv"))


def read_rows(path: Path, data: Spirals | Table, needs_answer: bool) -> Iterator[Row]:
    """The rows of a table with the columns that `data` names. Raises UserError without those."""
    # spreadsheets write a byte order mark; what is not UTF-8 is reported with its line
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            header = next(reader, [])
            check_header(header, data, needs_answer)
            for cells in filter(None, reader):
                first = reader.line_num - sum(cell.count("\n") for cell in cells)
                line = f"{first},{reader.line_num}" if first < reader.line_num else f"{first}"
                named = dict[str, str]()
                try:
                    check_text(cells)
                    if len(cells) != len(header):
                        raise ValueError(f"{len(cells)} cells; expected {len(header)}")
                    named = dict(zip(header, cells, strict=True))
                    yield Row(line, named, *read_row(named, data, needs_answer), "")
                except ValueError as problem:
                    yield Row(line, named, [], math.nan, f"{path}:{first}: {problem}")
        except (ValueError, csv.Error) as problem:
            raise UserError(f"{path}:{max(1, reader.line_num)}: {problem}") from None


def check_header(header: list[str], data: Spirals | Table, needs_answer: bool) -> None:
    """Raises ValueError if the names of the columns are not as expected."""
    if not header:
        raise ValueError("empty; expected the names of the columns")
    check_text(header)
    if twice := [name for name in header if header.count(name) > 1]:
        raise ValueError(f"two columns of the name {twice[0]}")
    wanted = [*data.features, *([data.answer] if needs_answer else [])]
    if missing := [name for name in wanted if name not in header]:
        raise ValueError(f"no column {missing[0]}; there are {', '.join(header)}")


def check_text(cells: list[str]) -> None:
    """Raises ValueError if they are not UTF-8."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8; iconv -f latin1 -t utf-8 may convert the table") from None


def read_row(
    cells: dict[str, str], data: Spirals | Table, needs_answer: bool
) -> tuple[list[float], float]:
    """The features and the answer of a row. Raises ValueError where one is not as expected."""
    features = [to_number(cells[name]) for name in data.features]
    text = cells.get(data.answer, "")
    answer = to_number(text)
    if data.classes:
        answer = data.classes.index(text) if text in data.classes else math.nan
    needed = [*data.features, data.answer] if needs_answer else data.features
    for name, number in zip(needed, [*features, answer], strict=False):
        if math.isnan(number):
            is_class = name == data.answer and data.classes
            expected = "not in data.classes" if is_class else "expected a number"
            raise ValueError(f"{name} = {cells[name]}: {expected}")
    return features, answer


def to_number(text: str) -> float:
    """A finite number, or NaN for any other text."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
