"""Checks before a run starts, without torch. Problems name file and line.

The last one of a list ends with the command that fixes them, where there is one.
"""

import logging
import math
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .config import Config
from .config.data import Spirals, Table
from .engine.config import Split
from .engine.errors import UserError
from .own_files import command, fold_problems
from .tables import find_tables, read_rows, to_number

log = logging.getLogger(__name__)

MOST_SHOWN = 5  # problems of a table
MOST_DELETED = 40  # lines that one command deletes; repeat it for more


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    data = cfg.data
    if isinstance(data, Spirals):
        return []
    keys = dict.fromkeys(map(data.key, splits))
    return [problem for key in keys for problem in check_split(key, data)]


def check_split(key: Split, data: Table) -> list[str]:
    """Problems of one table: its columns, its rows, and how many there are of each class."""
    path, other, describe = data.path(key), command(f"data.{key}=FILE"), command("mode=describe")
    if not path.is_file():
        return [f"data.{key} = {path}: no such file; expected a CSV file with a header\n{other}"]
    by_class = key == "train" and data.answer_kind == "class"
    problems, found = dict[str, str](), dict[float, dict[str, list[str]]]()
    try:
        for row in read_rows(path, data, needs_answer=True):
            if row.problem:
                problems[row.line] = row.problem
            else:  # equal rows stay in one split, and count once
                rows = found.setdefault(row.answer if by_class else 0, {})
                rows.setdefault(row.text, []).append(row.line)
    except UserError as error:
        column = command("data.answer=COLUMN")
        return [f"{error}\n{column if f'no column {data.answer};' in str(error) else other}"]
    unset = "" if data.classes or data.answer_kind == "number" else "classes"
    if unset := unset if data.features else "features":
        return [f"data.{unset} = []: expected names of {data.train}; to set it:\n{describe}"]
    if problems:
        shown = shorten(path, [*problems.values()])
        if key == "train" and any("not in data.classes" in text for text in problems.values()):
            shown[-1] += f"\nto set data.classes anew:\n{describe}"
        shown[-1] += f"\nto delete these lines: {delete_lines(path, [*problems])}"
        return shown
    few, lines, fewest = list[str](), list[str](), data.count_splits(key)
    for number, name in enumerate(data.classes if by_class else [""]):
        rows = found.get(number, {})
        if len(rows) < fewest:
            what = f"rows{' of ' if name else ''}{name}: {len(rows)}"
            few.append(f"{path}: {what}; expected at least {fewest}, one for each split")
            lines += [line for equal in rows.values() for line in equal]
    shown = shorten(path, few)
    if few and by_class:
        without = f"{delete_lines(path, lines)} && {describe}" if lines else describe
        shown[-1] += f"\nto leave such classes out:\n{without}"
    elif few:
        shown[-1] += f"\n{other}"
    elif key == "train":
        names = data.classes if by_class else [str(path)]
        return fold_problems(data, data.test, {it: len(found[i]) for i, it in enumerate(names)})
    return shown


def check_input(cfg: Config) -> Iterator[str]:
    """Problems of the tables that mode=recognize reads; of a folder, if none can be read."""
    for path in map(Path, cfg.input or []):
        tables = find_tables(path) if path.is_dir() else [path]
        problems = [table_problems(table, cfg) for table in tables]
        if not problems:
            yield f"input = {path}: no .csv file in this folder"
        elif all(problems):
            yield from (f"input = {problem}" for them in problems for problem in them)


def table_problems(path: Path, cfg: Config) -> list[str]:
    """Problems of a table that may lack the answers."""
    if not path.is_file():
        return [f"{path}: no such file"]
    try:
        rows = list(read_rows(path, cfg.data, needs_answer=False))
    except UserError as error:
        return list(error.problems)
    return shorten(path, [r.problem for r in rows if r.problem]) if rows else [f"{path}: no rows"]


def shorten(path: Path, problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - MOST_SHOWN
    return problems[:MOST_SHOWN] + ([f"{path}: … and {more} more"] if more > 0 else [])


def delete_lines(path: Path, lines: list[str]) -> str:
    """A command that deletes these lines of a file and keeps a copy of it."""
    script = "".join(f"{line}d;" for line in lines[:MOST_DELETED])
    return shlex.join(["sed", "-i.bak", script, str(path)])


def find_columns(cfg: Config) -> tuple[list[str], list[str]]:
    """The features and the classes in data.train, known ones first. Raises UserError."""
    data = cfg.data
    if isinstance(data, Spirals):
        own = command("mode=describe", "data=table", "data.train=FILE")
        raise UserError(f"data = {data.kind}: expected your own table\n{own}")
    path, count, numbers, answers = data.path("train"), 0, Counter[str](), set[str]()
    bare = data.model_copy(update={"features": []})
    try:
        for row in read_rows(path, bare, needs_answer=True):
            if row.cells:
                count += 1
                numbers.update({k: not math.isnan(to_number(v)) for k, v in row.cells.items()})
                answers.add(row.cells[data.answer])
    except (OSError, UserError):
        raise UserError(*check_split("train", data)) from None
    columns = [name for name in numbers if name != data.answer]
    # a single text among numbers is a mistake, and the check names its line
    found = [name for name in columns if numbers[name] > count / 2]
    features = [name for name in data.features if name in columns] or found
    if not features:
        raise UserError(
            f"data.train = {path}: no column of numbers beside {data.answer}; expected a feature\n"
            + command("data.train=FILE")
        )
    if left_out := [name for name in columns if name not in features]:
        log.info("left out of data.features: %s", ", ".join(left_out))
    for name in features:
        if gaps := count - numbers[name]:
            log.warning("%s: %s holds no number in %d of %d rows", path, name, gaps, count)
    if data.answer_kind == "number":
        return features, []
    answers.discard("")
    if not any(map(math.isnan, map(to_number, answers))) and len(answers) > max(10, count / 2):
        number = command("data.answer_kind=number")
        problem = f"{path}: {data.answer} has {len(answers)} different numbers in {count} rows"
        raise UserError(f"{problem}\nto predict a number instead of a class:\n{number}")
    if len(answers) < 2:
        raise UserError(
            f"data.answer = {data.answer}: {len(answers)} classes; expected two or more\n"
            + command("data.answer=COLUMN")
        )
    classes = [name for name in data.classes if name in answers]
    return features, classes + sorted(answers - set(classes))
