"""A third task, added by CONTRIBUTING.md alone: third/ has its files, copier.yml gains a choice."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import copier
import pytest

from .commands import NAMED, SMALL, Project
from .history import commit, copy_template, substitute

THIRD = Path(__file__).parent / "third"
# of the tests that run for every task, some that take little time
SHARED = ["layout", "schemas", "readmes", "render", "project"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with the task."""
    repository = tmp_path_factory.mktemp("third") / "template"
    copy_template(repository)
    shutil.rmtree(repository / "tests" / "third")
    for file in THIRD.rglob("*"):
        assert file.is_dir() or not (repository / file.relative_to(THIRD)).exists(), file
    shutil.copytree(THIRD, repository, dirs_exist_ok=True)
    choice = "    third - classes of points: third\n"
    substitute(repository / "copier.yml", r"(?s)^task:.*?(?=^  default)", rf"\g<0>{choice}")
    commit(repository, "A third task")
    return repository


@pytest.fixture(scope="module")
def third(template: Path) -> Project:
    path = template.with_name("project")
    answers = NAMED | {"task": "third"}
    copier.run_copy(str(template), path, answers, vcs_ref="HEAD", defaults=True, quiet=True)
    return Project(path)


def test_its_example_is_learned_and_points_are_recognized(third: Project) -> None:
    third.run("python train.py model=tiny training=fastrun name=first")
    third.run("python train.py mode=evaluate checkpoint=runs/first name=measured")
    measured = third.path / "runs/first/evaluate/measured/metrics.json"
    assert json.loads(measured.read_text())["accuracy"] > 0.95
    examples = THIRD / "tests" / "examples" / "third"
    done = third.run(f"python train.py mode=recognize checkpoint=runs/first input={examples}")
    assert "points.csv  second first" in done.stdout
    for mode in ("check", "explain", "report"):
        third.run(f"python train.py mode={mode}")


def test_its_section_is_part_of_the_config(third: Project) -> None:
    assert re.search(r"^  points +default$", third.run("python train.py --help").stdout, re.M)
    explained = third.run("python train.py mode=explain key=points").stdout
    assert re.search(r"scale: 3.0 +conf/points/default.yaml:2", explained)
    refused = third.run("python train.py points.scale=0", status=2).stderr
    assert "points.scale = 0: expected greater than 0" in refused

    run = f"python train.py {SMALL} name=scaled points.scale=2"
    third.run(run)
    assert "complete: 4 of 4" in third.run(f"{run} points.decimals=1").stdout
    longer = f"python train.py {SMALL} name=scaled training.iter_num=6"
    assert "points.scale: then 2.0, now 3.0" in third.run(longer, status=2).stderr
    done = third.run("python train.py mode=evaluate checkpoint=runs/scaled")
    assert "with model=dryrun points.scale=2, as the run recorded" in done.stdout

    third.run(f"python train.py --multirun {SMALL} name=scales points.scale=1,3")
    jobs = {path.parent.name for path in (third.path / "runs/scales").glob("*/metrics.jsonl")}
    assert jobs == {"scale=1", "scale=3"}


@pytest.mark.slow
def test_its_project_passes_its_own_linters_and_tests(third: Project) -> None:
    for command in ("ruff format --check .", "ruff check .", "mypy", "pytest -q"):
        third.run(f"python -m {command}")
    schema = third.path / ".vscode" / "settings.json"
    assert json.loads(schema.read_text())["yaml.schemas"][".vscode/schemas/points.json"]


@pytest.mark.slow
def test_the_shared_tests_pass_for_it(template: Path) -> None:
    files = [f"tests/test_{name}.py" for name in SHARED]
    chosen = ["-k", "[third", "-m", "not slow and not long"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *files],
        cwd=template,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) > 20, done.stdout
