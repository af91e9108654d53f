"""make check-update: it says what an update would do, and does nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import copier
import pytest

from .commands import NAMED, ROOT, Finished, Project
from .history import (
    CHANGES,
    EDITS,
    PACKAGE,
    append,
    changed_fastrun,
    commit,
    copier_command,
    copy_template,
    git,
    substitute,
)

ANSWERS = ".copier-answers.yml"
PRESET = "conf/training/fastrun.yaml"
Living = Callable[..., Path]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v0.1.0 is today's; v0.2.0 changes a preset, the Makefile, the engine, and adds a preset."""
    template = tmp_path_factory.mktemp("template") / "template"
    copy_template(template)
    for change in ("new_value", "new_preset", "new_target", "mended_engine"):
        CHANGES[change](template)
    commit(template, "Changes")
    git(template, "tag", "v0.2.0")
    return template


@pytest.fixture
def living(template: Path, tmp_path: Path) -> Living:
    def render(version: str, folder: Path | None = None, **answers: object) -> Path:
        project = folder or tmp_path / "my project"
        copier.run_copy(
            str(template), project, NAMED | answers, vcs_ref=version, defaults=True, quiet=True
        )
        git(project, "init", "-q")
        commit(project, "Rendered")
        return project

    return render


def everything(project: Path) -> dict[Path, bytes]:
    """All files, git's own too; its index is rewritten by a mere status."""
    files = [file for file in project.rglob("*") if file.is_file()]
    return {file: file.read_bytes() for file in files if file.name != "index"}


def check(project: Path, status: int, answers: str = "", path: str | None = None) -> str:
    """What it prints; status 0, or 1 and 2 as make passes them on in words."""
    before = everything(project)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    done: Finished = subprocess.run(
        ["make", "--no-print-directory", "check-update", f"ANSWERS={answers}"],
        cwd=project,
        env=environment | {"PATH": path or f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert everything(project) == before
    assert "Traceback" not in said
    assert done.returncode == (2 if status else 0), said
    assert (f"Error {status}" in done.stderr) == bool(status), said
    return done.stdout


def test_up_to_date(living: Living) -> None:
    assert check(living("v0.2.0"), 0) == "Up to date: v0.2.0 is the newest version.\n"


def test_it_applies_cleanly_and_lists_what_is_left_out(living: Living) -> None:
    project = living("v0.1.0")
    EDITS["own_target"](project)
    git(project, "mv", PRESET, "conf/training/brisk.yaml")
    git(project, "rm", "-q", "AGENTS.md")  # the same in both versions
    commit(project, "Mine")
    assert check(project, 0) == (
        "From v0.1.0 to v0.2.0: applies cleanly. copier update would change\n\n"
        "    Makefile\n    conf/training/longrun.yaml\n    my_project/engine/compose/aliases.py\n"
        "\nLeft out, because you deleted or renamed these files, are the changes to\n\n"
        f"    {PRESET}\n"
    )


def test_conflicts_are_named(living: Living) -> None:
    project = living("v0.1.0")
    changed_fastrun(project)
    commit(project, "Mine")
    said = check(project, 1)
    assert (
        f"conflicts in\n\n    {PRESET}\n\nThese would change without one:\n\n    Makefile\n" in said
    )
    copier.run_update(project, defaults=True, quiet=True, overwrite=True)
    assert git(project, "diff", "--name-only", "--diff-filter=U") == f"{PRESET}\n"
    (page,) = re.findall(r"how to resolve them: file://(.+)#conflicts", said)
    assert "\n## Conflicts\n" in Path(page).read_text()


def test_a_project_inside_a_larger_repository(living: Living, tmp_path: Path) -> None:
    top = tmp_path / "top"
    project = living("v0.1.0", top / "nets" / "whales")
    shutil.rmtree(project / ".git")
    (top / "notes.txt").write_text("mine\n")
    git(top, "init", "-q")
    commit(top, "All of it")
    assert f"applies cleanly. copier update would change\n\n    Makefile\n    {PRESET}\n" in check(
        project, 0
    )


def test_uncommitted_changes_are_named(living: Living) -> None:
    project = living("v0.1.0")
    append(project / "Makefile", "# mine\n")
    (project / "wäle.txt").write_text("mine\n")
    said = check(project, 2)
    assert said.startswith("Commit or stash these changes first")
    assert "    Makefile\n    wäle.txt\n" in said


def test_without_git_it_says_what_to_do(living: Living) -> None:
    project = living("v0.1.0")
    shutil.rmtree(project / ".git")
    assert "git init" in check(project, 2)
    git(project, "init", "-q")
    assert "commit everything" in check(project, 2)


def test_without_copier_it_says_what_to_install(living: Living, tmp_path: Path) -> None:
    project = living("v0.1.0")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "git", "sh", "bash"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    # this machine's own Python, which has no copier
    (tools / "python3").symlink_to(Path(sys.base_prefix, "bin", "python3"))
    assert "Copier is missing: install uv, or pip install copier" in check(
        project, 2, path=str(tools)
    )


def test_what_copier_refuses_is_passed_on(living: Living, template: Path) -> None:
    project = living("v0.2.0")
    substitute(project / ANSWERS, "license: .*", "license: GPL-9")
    commit(project, "An answer by hand")
    said = check(project, 2)
    assert said.startswith(f"copier cannot update from {template}:\nValueError: ")
    assert "Invalid choice for 'license': 'GPL-9' is not in ['MIT'," in said


def test_a_template_that_has_moved_is_reported(living: Living) -> None:
    project = living("v0.2.0")
    for address in ("gone", "/gone", "~/gone"):
        substitute(project / ANSWERS, "_src_path: .*", f"_src_path: {address}")
        commit(project, "The template moved")
        assert check(project, 2) == (
            f"The template is not at {address}. Write its address, a URL or an absolute path, as\n"
            "_src_path in .copier-answers.yml, commit, and run make check-update again.\n"
        )


NODES = f"{PACKAGE}/engine/distributed/nodes.py"
SBATCH = "scripts/train.sbatch"


def test_an_answer_turned_off_deletes_edited_files_and_that_is_reported(living: Living) -> None:
    project = living("v0.2.0", slurm=True)
    for file in (SBATCH, "Makefile"):
        append(project / file, "# mine\n")
    commit(project, "Mine")
    said = check(project, 1, "slurm=false parts=[report]")
    clean, _, deleted = said.partition("\nDeleted, though you edited them")
    assert clean.startswith("With these answers, v0.2.0: applies cleanly. copier update would")
    assert f"    {NODES}\n" in clean
    assert "    tools/schemas.py\n" in clean
    assert deleted == f", because the answers leave them out, would be\n\n    {SBATCH}\n"
    # that is so, and Makefile is merged
    data = {"slurm": False, "parts": ["report"]}
    copier.run_update(project, data, defaults=True, quiet=True, overwrite=True)
    assert not (project / SBATCH).exists()
    assert not (project / NODES).exists()
    assert (project / "Makefile").read_text().endswith("# mine\n")


def test_an_answer_turned_on_adds_files(living: Living) -> None:
    project = living("v0.2.0")
    append(project / "Makefile", "# mine\n")
    commit(project, "Mine")
    said = check(project, 0, "slurm=true trackers=[wandb, mlflow]")
    assert f"    {SBATCH}\n" in said
    assert f"    {PACKAGE}/engine/trackers/wandb.py\n" in said
    assert "edited" not in said
    copier.run_update(
        project,
        {"slurm": True, "trackers": ["wandb", "mlflow"]},
        defaults=True,
        quiet=True,
        overwrite=True,
    )
    assert (project / SBATCH).is_file()
    commit(project, "Answered anew")
    assert check(project, 0).startswith("Up to date")


@pytest.mark.parametrize("answer", ["tracker=wandb", "slurm"])
def test_an_answer_to_no_question_is_refused(living: Living, answer: str) -> None:
    said = check(living("v0.2.0"), 2, answer)
    assert said.startswith(f"ANSWERS: {answer}: expected QUESTION=ANSWER, as in ANSWERS=")
    assert "slurm" in said.splitlines()[1]


def test_a_renamed_package_is_reported_and_as_readme_says_gets_its_update(
    living: Living, template: Path
) -> None:
    project = living("v0.1.0")
    append(project / PACKAGE / "engine" / "compose" / "aliases.py", "\n\nMINE = 1\n")
    commit(project, "Mine")
    git(project, "mv", PACKAGE, "whales")
    commit(project, "Renamed in part")
    (project / PACKAGE / "engine" / "__pycache__").mkdir(parents=True)  # as git pull leaves it
    assert (
        "There is no my_project/engine: an update would leave out every change to the package.\n"
        "If you renamed it, replace `package: my_project` by `package: whales` in .copier-answers"
    ) in check(project, 2)
    done = copier_command(project, template, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    assert "There is no my_project/engine here" in done.stderr
    shutil.rmtree(project / PACKAGE)
    git(project, "reset", "-q", "--hard", "HEAD~1")
    git(project, "clean", "-qfd")

    page = (ROOT / "docs" / "updating.md").read_text()
    renaming = re.findall(r"^    (git (?:mv|grep) .*)$", page, re.MULTILINE)
    assert len(renaming) == 2
    for command in renaming:
        command = command.replace("OLD", PACKAGE).replace("NEW", "whales")
        subprocess.run(command, cwd=project, shell=True, check=True)
    commit(project, "Renamed")
    assert "applies cleanly" in check(project, 0)
    done = copier_command(project, template, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    assert "Updated." in done.stderr
    aliases = (project / "whales" / "engine" / "compose" / "aliases.py").read_text()
    assert "# mended\n" in aliases
    assert "MINE = 1\n" in aliases
    assert not (project / PACKAGE).exists()
    Project(project).run("python train.py --cfg all hydra/launcher=local")


def test_the_script_is_typed(living: Living) -> None:
    Project(living("v0.2.0")).run("python -m mypy tools/check_update.py")
