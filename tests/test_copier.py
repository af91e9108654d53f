"""Copy and update as a user does: the real command, a gh: address, git tags, no --trust."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, Finished, Project

GIT = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def copier(folder: Path, origin: Path, *arguments: str) -> Finished:
    """The real command; gh: leads to `origin`, since nothing here may need a network."""
    address = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/org/hydra-ml-template.git",
    }
    return subprocess.run(
        [sys.executable, "-m", "copier", *arguments],
        cwd=folder,
        env=os.environ | address,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """This template as a repository of its own, tagged v0.1.0."""
    origin = tmp_path / "origin"
    files = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for file in files:
        if (ROOT / file).is_file():
            (origin / file).parent.mkdir(parents=True, exist_ok=True)
            (origin / file).write_bytes((ROOT / file).read_bytes())
    git(origin, "init", "-q")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "Template")
    git(origin, "tag", "v0.1.0")
    return origin


@pytest.fixture
def living(tmp_path: Path, origin: Path) -> Path:
    """A project copied from gh:, with its first commit."""
    address = "gh:org/hydra-ml-template"
    done = copier(tmp_path, origin, "copy", "--defaults", address, "myproj")
    assert done.returncode == 0, done.stderr
    assert "make dryrun" in done.stderr
    living = tmp_path / "myproj"
    git(living, "init", "-q")
    git(living, "add", "-A")
    git(living, "commit", "-qm", "Rendered")
    return living


def test_copy_from_gh_without_trust_gives_a_project_that_runs(living: Path) -> None:
    answers = (living / ".copier-answers.yml").read_text()
    assert "_src_path: gh:org/hydra-ml-template" in answers
    assert "_commit: v0.1.0" in answers
    Project(living).run("python train.py model=dryrun training=dryrun")
    assert git(living, "status", "--porcelain") == "", "runs are ignored"


def test_an_update_brings_a_change_and_keeps_an_edit(living: Path, origin: Path) -> None:
    model = living / "conf" / "model" / "tiny.yaml"
    model.write_text(model.read_text().replace("dim: 64", "dim: 96"))
    git(living, "commit", "-qam", "Wider")

    preset = origin / "template" / "conf" / "training" / "fastrun.yaml"
    preset.write_text(preset.read_text().replace("iter_num: 1000", "iter_num: 1200"))
    git(origin, "commit", "-qam", "Longer")
    git(origin, "tag", "v0.2.0")

    done = copier(living, origin, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    config = Project(living).run("python train.py --cfg job model=tiny training=fastrun").stdout
    assert "dim: 96" in config
    assert "iter_num: 1200" in config
    changed = git(living, "status", "--porcelain").split()
    assert set(changed) == {"M", ".copier-answers.yml", "conf/training/fastrun.yaml"}


def test_an_answer_can_be_changed_later(living: Path, origin: Path) -> None:
    data = ["--data", "tracker=tensorboard", "--data", "slurm=true"]
    done = copier(living, origin, "update", "--defaults", *data)
    assert done.returncode == 0, done.stderr
    assert (living / "scripts" / "train.sbatch").is_file()
    assert "kind: tensorboard" in Project(living).run("python train.py --cfg job").stdout


def test_the_settings_need_no_trust() -> None:
    settings = (ROOT / "copier.yml").read_text()
    for risky in ("_tasks", "_migrations", "_jinja_extensions"):
        assert risky not in settings
