"""Documents of the standard library, of the user's files and datasets. No torch here."""

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from .config.data import Data, Hub, Stdlib, TextFiles
from .engine.config import Split
from .engine.errors import UserError
from .hub import open_rows, read_texts

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data"}
PIECE = 2**18  # bytes that are read at once, and the rest of their last line


def list_files(data: Data, split: Split) -> list[str]:
    """The files that a split is read from, sorted; lines and rows are chosen when they are read."""
    if isinstance(data, Hub):
        return [it["filename"] for it in open_rows(data, split).cache_files]
    folder, files = find_files(data, split)
    if is_jsonl(files):
        return files
    names = (os.path.relpath(file, folder).encode() for file in files)
    return [
        file for file, mine in zip(files, select_documents(data, split, names), strict=True) if mine
    ]


def find_files(data: Stdlib | TextFiles, split: Split) -> tuple[str, list[str]]:
    """The folder that a split is read from and the files of text below it, or one file."""
    suffixes: tuple[str, ...]
    if isinstance(data, Stdlib):
        folder, suffixes, left_out = sysconfig.get_path("stdlib"), (".py",), LEFT_OUT
    elif data.path(split).is_file():
        return str(data.path(split).parent), [str(data.path(split))]
    else:
        folder, suffixes, left_out = str(data.path(split)), tuple(data.suffixes), set[str]()
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out and name[0] != "."]
        files += [f"{parent}/{name}" for name in names if name.endswith(suffixes)]
    return folder, sorted(files)


def is_jsonl(files: list[str]) -> bool:
    """Whether this is one file of JSON Lines."""
    return len(files) == 1 and files[0].endswith(".jsonl")


def find_held_out(data: Data, split: Split) -> dict[Split, float]:
    """The fractions that are held out of the path that this split is read from."""
    if not isinstance(data, Stdlib) and data.key(split) != "train":
        return {}
    parts: dict[Split, str | float] = {"test": data.test, "valid": data.valid}
    return {name: part for name, part in parts.items() if isinstance(part, float)}


def select_documents(data: Data, split: Split, names: Iterable[bytes]) -> NDArray[np.bool_]:
    """Which of these documents belong to the split, by the digests of the seed and their names.

    Documents that share a name stay together; each part has at least one. A document takes 24
    bytes of memory.
    """
    seed = b"%d " % data.seed
    hashes = (hashlib.blake2b(seed + name, digest_size=8).digest() for name in names)
    digests = np.fromiter((int.from_bytes(it) for it in hashes), np.uint64)
    order, first = np.unique(digests), 0
    places = np.searchsorted(order, digests)
    is_left = np.ones(len(places), bool)
    for held_out, fraction in find_held_out(data, split).items():  # test, then valid
        start, end = 0, max(1, int(fraction * len(order)))
        if held_out == "valid":
            start, end = data.valid_places(len(order) - first, end)
        mine = (first + start <= places) & (places < first + end)
        if held_out == split:
            return mine
        is_left &= ~mine
        first = end
    return is_left


def read_documents(data: Data, split: Split) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name of each document, and its pieces in order. Raises UserError at an invalid line."""
    if isinstance(data, Hub):
        mine = select_documents(data, split, read_texts(data, split))
        for row, text in enumerate(read_texts(data, split)):
            if mine[row]:
                yield f"{data.dataset}, row {row}", iter([text])
        return
    files = list_files(data, split)
    if isinstance(data, TextFiles) and is_jsonl(files):
        mine = select_documents(data, split, read_lines(files[0]))
        for number, line in enumerate(read_lines(files[0]), 1):
            if mine[number - 1]:
                name = f"{files[0]}:{number}"
                text, problem = parse_line(line, data.field)
                if problem:
                    raise UserError(f"{name}: {problem}")
                yield name, iter([text])
    else:
        for file in files:
            yield file, read_file(file)


def read_file(file: str) -> Iterator[bytes]:
    """A file's bytes in pieces of whole lines, so that one of any size fits in memory."""
    with Path(file).open("rb") as opened:
        while piece := opened.read(PIECE):
            yield piece + opened.readline()


def read_lines(file: str) -> Iterator[bytes]:
    """The lines of a file."""
    with Path(file).open("rb") as opened:
        yield from opened


def parse_line(line: bytes, field: str) -> tuple[bytes, str | None]:
    """The text of a line of JSON, or why it has none."""
    try:
        row = from_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return b"", "not UTF-8; iconv -f latin1 -t utf-8 may convert the file"
    except ValueError:
        return b"", "not JSON"
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        return b"", f'expected {{"{field}": "…"}}, which data.field names'
    return row[field].encode("utf-8", "replace"), None


def find_inputs(folder: Path) -> list[Path]:
    """All files below a folder, without hidden ones."""
    below = (it for it in folder.rglob("[!.]*") if it.is_file())
    return sorted(it for it in below if not any(p[0] == "." for p in it.relative_to(folder).parts))
