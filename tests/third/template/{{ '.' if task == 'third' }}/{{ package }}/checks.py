"""Checks before a run starts, without torch. Problems name file and line."""

import shlex
from pathlib import Path

from .config import Config
from .config.data import Table
from .engine.config import Split
from .engine.errors import UserError
from .own_files import command
from .points import read_points


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    data = cfg.data
    if not isinstance(data, Table):
        return []
    keys = dict.fromkeys(map(data.key, splits))
    return [problem for key in keys for problem in check_table(key, data)]


def check_table(key: Split, data: Table) -> list[str]:
    """Problems of one table."""
    path = data.path(key)
    if not path.is_file():
        return [f"data.{key} = {path}: no such file\n{command(f'data.{key}=FILE')}"]
    points, problems = read_points(path)
    if problems:
        delete = shlex.join(["sed", "-i", "".join(f"{line}d;" for line in problems), str(path)])
        return [*list(problems.values())[:-1], f"{[*problems.values()][-1]}\nto delete:\n{delete}"]
    unknown = sorted({name for *_, name in points} - set(data.classes))
    if unknown:
        describe = command("mode=describe")
        return [f"{path}: {', '.join(unknown)}: not in data.classes; to set it:\n{describe}"]
    return []


def find_classes(cfg: Config) -> list[str]:
    """The classes of data.train, known ones first. Raises UserError."""
    data = cfg.data
    if not isinstance(data, Table):
        own = command("mode=describe", "data=table", "data.train=FILE")
        raise UserError(f"data = {data.kind}: expected your own points\n{own}")
    if not Path(data.train).is_file():
        raise UserError(*check_table("train", data))
    there = {name for *_, name in read_points(Path(data.train))[0]}
    return [name for name in data.classes if name in there] + sorted(there - set(data.classes))


def check_input(cfg: Config) -> list[str]:
    """Problems of the tables and folders that mode=recognize reads."""
    paths = [Path(path) for path in cfg.input or []]
    found = {path: list(path.glob("*.csv")) if path.is_dir() else path.is_file() for path in paths}
    return [f"input = {path}: no table" for path, tables in found.items() if not tables]
