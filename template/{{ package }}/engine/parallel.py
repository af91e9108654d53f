# ruff: noqa: PTH114, PTH118  # a Path for each of a million files costs seconds and memory
"""Operations on many files at once; paths are strings."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def for_each(function: Callable[[str], T], paths: Sequence[str]) -> list[T]:
    """Call `function` with each path, in threads: a network file system takes 1 ms for each."""
    size = max(1, len(paths) // 256)  # a task for each path would cost more than the call
    parts = [paths[first : first + size] for first in range(0, len(paths), size)]
    with ThreadPoolExecutor(32) as threads:
        done = threads.map(lambda part: [function(path) for path in part], parts)
        return [result for part in done for result in part]


def resolve(paths: Sequence[str]) -> set[str]:
    """The paths without links, each folder resolved once."""
    folders = {folder: os.path.realpath(folder) for folder in set(map(os.path.dirname, paths))}

    def resolved(path: str) -> str:
        folder, name = os.path.split(path)
        path = os.path.join(folders[folder], name)
        return os.path.realpath(path) if os.path.islink(path) else path

    return set(for_each(resolved, paths))
