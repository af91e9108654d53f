"""Copy and update as a user does: the real command, a gh: address, git tags, no --trust."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from .commands import ROOT, Project
from .conftest import oldest_copier
from .history import append, commit, copier_command, copy_template, git, substitute
from .tasks import TASKS

ADDRESS = "gh:org/hydra-ml-template"
DOCS = "https://github.com/org/hydra-ml-template"
MINIMUM = yaml.safe_load((ROOT / "copier.yml").read_text())["_min_copier_version"]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """This template as a repository of its own, tagged v0.1.0."""
    origin = tmp_path / "origin"
    copy_template(origin)
    return origin


@pytest.fixture
def living(tmp_path: Path, origin: Path) -> Path:
    """A project copied from gh:, with its first commit."""
    done = copier_command(tmp_path, origin, "copy", "--defaults", ADDRESS, "myproj")
    assert done.returncode == 0, done.stderr
    assert "make dryrun" in done.stderr
    living = tmp_path / "myproj"
    git(living, "init", "-q")
    commit(living, "Rendered")
    return living


def release(origin: Path, version: str, iterations: int) -> None:
    preset = origin / "template" / "conf" / "training" / "fastrun.yaml"
    substitute(preset, r"iter_num: \d+", f"iter_num: {iterations}")
    commit(origin, "Longer")
    if version != "HEAD":
        git(origin, "tag", version)


def test_copy_from_gh_without_trust_gives_a_project_that_runs(living: Path) -> None:
    answers = (living / ".copier-answers.yml").read_text()
    assert f"_src_path: {ADDRESS}" in answers
    assert "_commit: v0.1.0" in answers
    Project(living).run("python train.py model=dryrun training=dryrun")
    assert git(living, "status", "--porcelain") == "", "runs are ignored"


@pytest.mark.parametrize("version", ["v0.2.0", "HEAD"])
def test_an_update_brings_a_change_and_keeps_an_edit(
    living: Path, origin: Path, version: str
) -> None:
    substitute(living / "conf" / "model" / "tiny.yaml", r"dim: \d+", "dim: 96")
    assert f"{DOCS}/blob/HEAD/docs/README.md" in (living / "README.md").read_text()
    (living / "README.md").write_text("Mine alone.\n")
    commit(living, "Wider")
    release(origin, version, 1200)

    which = ["--vcs-ref", "HEAD"] if version == "HEAD" else []
    done = copier_command(living, origin, "update", "--defaults", *which)
    assert done.returncode == 0, done.stderr
    assert "git diff" in done.stderr
    config = Project(living).run("python train.py --cfg job model=tiny training=fastrun").stdout
    assert "dim: 96" in config
    assert "iter_num: 1200" in config
    changed = git(living, "status", "--porcelain").split()
    engine = "myproj/engine/__init__.py"
    assert set(changed) == {"M", ".copier-answers.yml", "conf/training/fastrun.yaml", engine}
    commit_of = git(origin, "rev-parse", "--short", "HEAD").strip() if which else version
    assert f'"{DOCS}/blob/{commit_of}/docs"' in (living / engine).read_text()


def test_recopy_renders_anew_with_the_same_answers(living: Path, origin: Path) -> None:
    data = ["--data", "project_name=Whales", "--data", "package=whales"]
    done = copier_command(origin.parent, origin, "copy", "--defaults", *data, ADDRESS, "whales")
    assert done.returncode == 0, done.stderr
    whales = origin.parent / "whales"
    substitute(whales / "conf" / "model" / "tiny.yaml", r"dim: \d+", "dim: 96")
    (whales / "conf" / "model" / "mine.yaml").write_text("defaults: [tiny]\n")
    release(origin, "v0.2.0", 1200)
    done = copier_command(whales, origin, "recopy", "--defaults", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "# Whales" in (whales / "README.md").read_text()
    config = Project(whales).run("python train.py --cfg job model=mine training=fastrun").stdout
    assert "iter_num: 1200" in config
    assert "dim: 96" not in config, "recopy discards edits of the template's files"


def test_an_answer_can_be_changed_later(living: Path, origin: Path) -> None:
    data = ["--data", "trackers=[wandb]", "--data", "slurm=true"]
    done = copier_command(living, origin, "update", "--defaults", *data)
    assert done.returncode == 0, done.stderr
    assert (living / "scripts" / "train.sbatch").is_file()
    assert "kind: wandb" in Project(living).run("python train.py --cfg job").stdout
    commit(living, "Answered anew")
    done = copier_command(living, origin, "update", "--defaults", "--data", "slurm=false")
    assert done.returncode == 0, done.stderr
    assert not (living / "scripts" / "train.sbatch").exists()
    assert "kind: wandb" in Project(living).run("python train.py --cfg job").stdout


def test_these_commands_do_refuse_what_needs_trust(living: Path, origin: Path) -> None:
    """So that the tests above say something: with a task in copier.yml, all of them fail."""
    append(origin / "copier.yml", "\n_tasks: [touch done]\n")
    commit(origin, "A task")
    git(origin, "tag", "v0.2.0")
    for arguments in (["copy", ADDRESS, "new"], ["update"], ["recopy", "--overwrite"]):
        done = copier_command(living, origin, *arguments, "--defaults")
        assert done.returncode != 0
        assert "--trust" in done.stderr


def test_a_project_of_a_relative_path_is_updated(
    tmp_path: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that follow run in other folders: the project, and a clone of it."""
    monkeypatch.setenv("PYTHONPATH", str(oldest_copier()))
    done = copier_command(tmp_path, origin, "copy", "--defaults", "origin", "myproj")
    assert done.returncode == 0, done.stderr
    living = tmp_path / "myproj"
    git(living, "init", "-q")
    commit(living, "Rendered")
    release(origin, "v0.2.0", 1200)
    check = [sys.executable, "tools/check_update.py"]
    said = subprocess.run(check, cwd=living, capture_output=True, text=True).stdout
    assert said == (
        "From v0.1.0 to v0.2.0: applies cleanly. copier update would change\n\n"
        "    conf/training/fastrun.yaml\n"
    )
    done = copier_command(living, origin, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    assert "Updated." in done.stderr
    assert "iter_num: 1200" in (living / "conf" / "training" / "fastrun.yaml").read_text()


def test_an_address_that_works_anywhere_is_kept_as_given(
    tmp_path: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for address, kept in (("~/origin", "~/origin"), ("./origin/", str(origin))):
        done = copier_command(tmp_path, origin, "copy", "-q", "--defaults", "-f", address, "new")
        assert done.returncode == 0, done.stderr
        answers = yaml.safe_load((tmp_path / "new" / ".copier-answers.yml").read_text())
        assert answers["_src_path"] == kept


def test_the_oldest_copier_renders_the_same(
    tmp_path: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = []
    for versions in ("newest", "oldest"):
        if versions == "oldest":
            monkeypatch.setenv("PYTHONPATH", str(oldest_copier()))
            version = copier_command(tmp_path, origin, "--version").stdout
            assert version.endswith(f" {MINIMUM}\n")
        for task in TASKS:
            answers = [f"--data=task={task}", "--data=slurm=true", "--data=trackers=[wandb]"]
            target = f"{versions}/{task}"
            done = copier_command(
                tmp_path, origin, "copy", "-q", "--defaults", *answers, "origin", target
            )
            assert done.returncode == 0, done.stderr
        folder = tmp_path / versions
        files = (file for file in folder.rglob("*") if file.is_file())
        trees.append({file.relative_to(folder): file.read_bytes() for file in files})
    assert trees[0] == trees[1]


def test_the_oldest_copier_is_the_same_everywhere() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["test"]
    (copier,) = [tool for tool in tools if Requirement(tool).name == "copier"]
    assert copier == f"copier>={MINIMUM}"
    for readme in ("README.md", "template/README.md.jinja"):
        assert f"pip install copier, {MINIMUM} or newer" in (ROOT / readme).read_text()


def test_the_settings_need_no_trust() -> None:
    settings = (ROOT / "copier.yml").read_text()
    for risky in ("_tasks", "_migrations", "_jinja_extensions"):
        assert risky not in settings
