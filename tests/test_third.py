"""A task that CONTRIBUTING.md alone adds: the files of blank under a new name, and a section."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import copier
import pytest

from .commands import NAMED, ROOT, SMALL, Project
from .history import commit, copy_template, substitute, write

# of the tests that run for every task, some that take little time
SHARED = ["layout", "schemas", "readmes", "render", "project"]
# what CONTRIBUTING.md's page and its checklist name; the rest of the repository knows no task
FILES = [
    "template/{{ '.' if task == 'NAME' }}",
    "includes/facts-NAME.yaml",
    "includes/readme-NAME.md",
    "tests/tasks/NAME.py",
    "tests/examples/NAME",
]
OPTIONS = """\
# How points enter the model, and how metrics are written.
scale: 1.0 # factor of all features
decimals: 6 # of metrics
"""
TYPES = '''\
"""Types of conf/points."""

from pydantic import NonNegativeInt, PositiveFloat

from ..engine.types import ResumeSafe, Section


class Points(Section):
    """conf/points/default.yaml."""

    scale: PositiveFloat
    decimals: ResumeSafe[NonNegativeInt]
'''


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with the task."""
    repository = tmp_path_factory.mktemp("third") / "template"
    copy_template(repository)
    for pattern in FILES:
        known, new = (repository / pattern.replace("NAME", name) for name in ("blank", "third"))
        (shutil.copytree if known.is_dir() else shutil.copy)(known, new)
    task = repository / "template" / "{{ '.' if task == 'third' }}"
    (task / "tests/test_blank.py.jinja").rename(task / "tests/test_third.py.jinja")
    substitute(repository / "tests/tasks/third.py", 'name="blank"', 'name="third"')
    choice = "    third - a copy of blank: third\n"
    substitute(repository / "copier.yml", r"(?s)^task:.*?(?=^  default)", rf"\g<0>{choice}")

    package = task / "{{ package }}"
    substitute(repository / "includes/facts-third.yaml", r"sections: \[\]", "sections: [points]")
    write(task / "conf/points/default.yaml", OPTIONS)
    write(package / "config/points.py", TYPES)
    substitute(package / "model.py", r"Scale\(features\)", "Scale(features / cfg.points.scale)")
    metrics = r"    return \{key: (.*) for key in (.*)\}$"
    rounded = r"""    return {
        key: round(\1, cfg.points.decimals)
        for key in \2
    }"""
    substitute(package / "evaluation.py", metrics, rounded)
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
    metrics = json.loads(measured.read_text())
    assert metrics["error"] < 0.05
    assert metrics["loss"] == round(metrics["loss"], 6)
    examples = ROOT / "tests" / "examples" / "blank"
    done = third.run(f"python train.py mode=recognize checkpoint=runs/first input={examples}")
    assert "points.csv  first, second, first, " in done.stdout
    for mode in ("check", "explain", "report"):
        third.run(f"python train.py mode={mode}")


def test_its_section_is_part_of_the_config(third: Project) -> None:
    assert re.search(r"^  points +default$", third.run("python train.py --help").stdout, re.M)
    explained = third.run("python train.py mode=explain key=points").stdout
    assert re.search(r"scale: 1.0 +conf/points/default.yaml:2", explained)
    refused = third.run("python train.py points.scale=0", status=2).stderr
    assert "points.scale = 0: expected greater than 0" in refused

    run = f"python train.py {SMALL} name=scaled points.scale=2"
    third.run(run)
    assert "complete at iteration 4 of 4" in third.run(f"{run} points.decimals=1").stdout
    longer = f"python train.py {SMALL} name=scaled training.iter_num=6"
    assert "points.scale: then 2.0, now 1.0" in third.run(longer, status=2).stderr
    done = third.run("python train.py mode=evaluate checkpoint=runs/scaled")
    assert "with model=dryrun points.scale=2, as the run recorded" in done.stdout

    third.run(f"python train.py --multirun {SMALL} name=scales points.scale=1,3")
    jobs = {path.parent.name for path in (third.path / "runs/scales").glob("*/metrics.jsonl")}
    assert jobs == {"scale=1", "scale=3"}


@pytest.mark.long
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
