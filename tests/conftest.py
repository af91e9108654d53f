"""Projects rendered once and shared; commands run as a user types them."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from .commands import FULL, NAMED, ROOT, Project, Render
from .tasks import TASKS, Task

# with two workers, tests of these files go to whichever is free; those of other files stay together
SPLIT = ("environments", "explain", "processes", "project", "survival", "sweeps")
# of tests that go to a worker one by one, those that take longest: none is left for the end
FIRST = ("environments", "survival", "sweeps")


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """What goes to a worker at once; xdist's own groups are lost with pytest 9."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if Path(file).stem.removeprefix("test_") in SPLIT else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test marked task("NAME") has nothing of a task's in it and runs for those named alone."""
    order = {f"test_{name}": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))
    for item in list(items):
        named = {name for mark in item.iter_markers("task") for name in mark.args}
        call = getattr(item, "callspec", None)
        if named and call and call.params.get("task", min(named)) not in named:
            items.remove(item)
            config.hook.pytest_deselected(items=[item])


def oldest_copier() -> Path:
    """The oldest Copier that copier.yml allows, over our other packages; kept in build/."""
    oldest = yaml.safe_load((ROOT / "copier.yml").read_text())["_min_copier_version"]
    target = ROOT / "build" / f"copier-{oldest}"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
            subprocess.run(
                [*install, f"--target={folder}/new", f"copier=={oldest}"],
                check=True,
                env={k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"},
            )
            with contextlib.suppress(OSError):  # another worker was faster
                Path(folder, "new").rename(target)
    return target


IS_OLDEST = f'"{version("copier")}"' in (ROOT / "copier.yml").read_text()


@pytest.fixture(params=["newest"] if IS_OLDEST else ["newest", "oldest"])
def each_copier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands run with the newest Copier, and once more with the oldest."""
    if request.param == "oldest":
        monkeypatch.setenv("PYTHONPATH", str(oldest_copier()))
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Projects share what mypy knows of libraries, which takes it longest to read."""
    os.environ["MYPY_CACHE_DIR"] = str(tmp_path_factory.mktemp("mypy"))


@pytest.fixture(scope="session")
def render(copie_session: Any) -> Render:
    """Render a combination of answers; the same answers give the same project."""
    rendered: dict[str, Path] = {}

    def project_for(**answers: Any) -> Path:
        key = repr(sorted(answers.items()))
        if key not in rendered:
            result = copie_session.copy(extra_answers=NAMED | answers)
            assert result.exception is None, result.exception
            rendered[key] = Path(result.project_dir)
        return rendered[key]

    return project_for


@pytest.fixture(scope="session", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    """Each task in turn."""
    return TASKS[request.param]


@pytest.fixture(scope="session")
def project(render: Render, task: Task) -> Project:
    """A project with everything that the answers offer."""
    return Project(render(**FULL, task=task.name), task=task)


@pytest.fixture(scope="session")
def dryrun(project: Project) -> str:
    """The name of a finished dryrun in `project`."""
    project.run("python train.py model=dryrun training=dryrun name=dry")
    return "dry"


@pytest.fixture(scope="session")
def trained(project: Project) -> str:
    """The directory of a run that learned what the task's example is to teach."""
    project.run("python train.py model=tiny training=fastrun name=tiny")
    return "runs/tiny"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size, such as 2m."""
    with contextlib.ExitStack() as stack:

        def mount(size: str) -> Path:
            disk = tmp_path / "disk"
            disk.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
            if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
                pytest.skip("only root may mount a small file system")
            stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
            return disk

        yield mount
