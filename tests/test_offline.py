"""With networking cut off: nothing but a loopback that is down, in a network namespace of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Finished, Render
from .history import commit, copy_template, git, substitute

UNSHARE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
REACH = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"


def cut_off(folder: Path, *command: str) -> Finished:
    inherited = {k: v for k, v in os.environ.items() if k != "RUN_NAME"}
    return subprocess.run(
        [*UNSHARE, sys.executable, *command],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
    )


def succeeds(done: Finished) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def needs_namespaces() -> None:
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"]).returncode:
        pytest.skip("no network namespaces here: unshare --net needs root or user namespaces")


def test_it_is_cut_off(tmp_path: Path) -> None:
    """So that the tests below say something."""
    assert "Network is unreachable" in cut_off(tmp_path, "-c", REACH).stderr


@pytest.mark.parametrize("tracker", ["none", "tensorboard"])
def test_a_run_in_every_mode(render: Render, tmp_path: Path, tracker: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(tracker=tracker), project, ignore=shutil.ignore_patterns("runs"))
    succeeds(cut_off(project, "train.py", "model=dryrun", "training=dryrun", "name=a"))
    succeeds(cut_off(project, "train.py", "mode=evaluate", "checkpoint=runs/a"))
    audio = Path(__file__).parent / "audio"
    recognize = ("mode=recognize", "checkpoint=runs/a", f"input={audio}")
    succeeds(cut_off(project, "train.py", *recognize))


def test_copy_and_update_from_a_local_template(tmp_path: Path) -> None:
    template, project = tmp_path / "template", tmp_path / "project"
    copy_template(template)
    succeeds(cut_off(tmp_path, "-m", "copier", "copy", "--defaults", str(template), str(project)))
    git(project, "init", "-q")
    commit(project, "Rendered")
    preset = template / "template" / "conf" / "training" / "fastrun.yaml"
    substitute(preset, r"iter_num: \d+", "iter_num: 1234")
    commit(template, "Longer")
    git(template, "tag", "v0.2.0")
    succeeds(cut_off(project, "-m", "copier", "update", "--defaults"))
    assert "iter_num: 1234" in (project / "conf" / "training" / "fastrun.yaml").read_text()
