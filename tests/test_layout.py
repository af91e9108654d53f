"""The engine lies below the user's code, its rooms in one order; user files import few names."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import FULL, Render
from .tasks import TASKS

ROOMS = [
    "find_part see errors terminal types signals config project overrides parallel slurm"
    " statistics",
    *("run_dir", "compose", "distributed", "checkpoints", "data", "trackers report", "inference"),
    *("train", "sweeps"),
    "check load fit cli",
]
LEVELS = {name: level for level, names in enumerate(ROOMS) for name in names.split()}
TOP_LEVEL = len(ROOMS) - 1
MOST_NAMES = 25


@pytest.fixture(scope="module", params=TASKS)
def package(request: pytest.FixtureRequest, render: Render) -> Path:
    return render(**FULL, task=request.param) / "my_project"


def imports(package: Path, file: Path) -> Iterator[tuple[str, str]]:
    """What a file imports: each module, by its full name, and the name that it takes from there."""
    inside = ".".join([package.name, *file.relative_to(package).parts[:-1]])
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(name, inside)
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def test_the_engine_imports_nothing_of_the_users(package: Path) -> None:
    for file in (package / "engine").rglob("*.py"):
        for module, _ in imports(package, file):
            ours = module.split(".")[0] == package.name
            assert not ours or module.startswith(f"{package.name}.engine"), f"{file}: {module}"


def test_rooms_import_from_rooms_below(package: Path) -> None:
    engine = package / "engine"
    for file in engine.rglob("*.py"):
        here = file.relative_to(engine).parts[0].removesuffix(".py")
        for module, name in imports(package, file):
            if module.startswith(f"{package.name}.engine"):
                there = f"{module}.{name}".split(".")[2]
                together = LEVELS[there] == LEVELS[here] in (0, TOP_LEVEL)
                assert there == here or LEVELS[there] < LEVELS[here] or together, (
                    f"{file}: {module}"
                )


def test_users_import_few_names_and_the_engine_lists_them(package: Path) -> None:
    used = {
        (name, module.partition(".engine")[2].removeprefix(".") or "__init__")
        for file in package.rglob("*.py")
        if "engine" not in file.relative_to(package).parts
        for module, name in imports(package, file)
        if module.startswith(f"{package.name}.engine")
    }
    docstring = ast.get_docstring(ast.parse((package / "engine" / "__init__.py").read_text()))
    rows = [line.split() for line in str(docstring).splitlines() if line.startswith("    ")]
    listed = {(name, module) for name, module, *_ in rows}
    assert used <= listed
    assert len(listed) <= MOST_NAMES
    for name, module in listed:
        assert name in (package / "engine" / f"{module.replace('.', '/')}.py").read_text()
