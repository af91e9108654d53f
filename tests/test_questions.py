"""The questions, asked through the real command: no --trust, validators on."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from .commands import ROOT, Finished, Project, shown

HOSTILE = [
    'My "Best" Project: {{ 7*7 }} ü',
    "It's 100% #1: [a, b] {c: d}",
    "\\n \\\" ''' $(touch x) `id` %s",
    "   spaces around   ",
    "42 is the name",
    "日本語 🚀",
    "<script>alert(1)</script>",
    "--- # not a comment",
    "*bold* __init__ [link](u) ![i](u) &amp; ~~no~~ C#",
    "👩\u200d🚀 and 🇺🇳",
    "Test",
    "x" * 200,
]


def copier_copy(target: Path, **answers: str) -> Finished:
    data = [f"--data={question}={answer}" for question, answer in answers.items()]
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD"]
    return subprocess.run([*command, *data, str(ROOT), str(target)], capture_output=True, text=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name_and_is_shown_as_given(tmp_path: Path, name: str) -> None:
    target = tmp_path / "project"
    answers = {"project_name": name, "description": name, "author_name": name, "license": "MIT"}
    done = copier_copy(target, **answers)
    assert done.returncode == 0, done.stderr
    project = tomllib.loads((target / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["description"] == name
    assert project["authors"] == [{"name": name}]
    remembered = yaml.safe_load((target / ".copier-answers.yml").read_text("utf-8"))
    assert remembered["project_name"] == name
    assert shown((target / "README.md").read_text("utf-8"), "heading_open") == name.strip()
    assert name in (target / "LICENSE").read_text("utf-8")
    for command in ("format --check .", "check ."):
        Project(target).run(f"python -m ruff {command}")
    config = Project(target).run("python train.py --cfg job")
    assert "sample_rate" in config.stdout


@pytest.mark.parametrize(
    ("question", "answer", "allowed"),
    [
        ("project_name", " ", "must not be empty"),
        ("project_name", "two\nlines", "One line"),
        ("project_name", "x" * 201, "At most 200"),
        ("package", "torch", "taken"),
        ("package", "conf", "taken"),
        ("package", "tests", "taken"),
        ("package", "hydra", "taken"),
        ("package", "json", "taken"),
        ("package", "class", "taken"),
        ("package", "my-project", "lower-case letters"),
        ("package", "1st", "lower-case letters"),
        ("package", "_net", "lower-case letters"),
        ("package", "net_", "lower-case letters"),
        ("package", "on", "taken"),
        ("package", "Project", "lower-case letters"),
        ("package", "ümlaut", "lower-case letters"),
        ("package", "x" * 41, "At most 40"),
        ("author_email", "me", "name@example.org"),
        ("author_email", 'a"b@example.org', "name@example.org"),
        ("author_email", "a..b@example.org", "name@example.org"),
        ("author_name", "a\u202eb", "One line"),
        ("description", "a\tb", "One line"),
        ("license", "GPL-9", "MIT"),
    ],
)
def test_a_wrong_answer_is_refused(
    tmp_path: Path, question: str, answer: str, allowed: str
) -> None:
    done = copier_copy(tmp_path / "project", **{question: answer})
    assert done.returncode != 0
    assert question in done.stderr
    assert allowed in done.stderr
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("My project", "my_project"),
        ("Torch", "torch_project"),
        ("3D-Net (v2)", "d_net_v2"),
        ("日本語", "project"),
        ("data", "data_project"),
    ],
)
def test_the_package_is_named_after_the_project(tmp_path: Path, name: str, package: str) -> None:
    copier_copy(tmp_path / "project", project_name=name)
    assert (tmp_path / "project" / package / "training.py").is_file()
