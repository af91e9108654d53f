"""The JSON Schemas that editors use, asked through check-jsonschema."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from .commands import FULL, Project, Render
from .tasks import Task

FOLDER = Path(".vscode", "schemas")
WRITE = "python -m tools.schemas"
SCHEMA = {"experiment": "config", "sweep": "config"}

MISTAKES = {
    "a misspelt key": ("training", "optim:\n  lrr: 1e-4\n"),
    "a key in the wrong section": ("training", "optim:\n  batch_size: 16\n"),
    "a text for a number": ("training", "optim:\n  lr: fast\n"),
    "a negative rate": ("training", "optim:\n  lr: -1e-4\n"),
    "a rate of zero": ("training", "optim:\n  lr: 0\n"),
    "no such scheduler": ("training", "optim:\n  scheduler:\n    kind: cosin\n"),
    "no such optimizer": ("training/optim", "kind: adam\n"),
    "another optimizer's key": ("training/optim", "kind: sgd\nbetas: [0.9, 0.98]\n"),
    "another schedule's key": ("training/optim/scheduler", "kind: constant\nfinal_ratio: 0.1\n"),
    "one beta": ("training", "optim:\n  betas: [0.9]\n"),
    "a beta of one": ("training", "optim:\n  betas: [0.9, 1.0]\n"),
    "half an iteration": ("training", "run:\n  iter_num: 0.5\n"),
    "no such precision": ("training", "run:\n  precision: fp8\n"),
    "a number for a switch": ("training", "run:\n  compile: 1\n"),
    "an alias that points elsewhere": ("training", "lr: ${.run.seed}\n"),
    "a value for an alias": ("training", "lr: 3e-4\n"),
    "a list for a section": ("training", "run: [1, 2]\n"),
    "no such section": ("training", "optimizer:\n  lr: 1e-4\n"),
    "no such kind": ("tracker", "kind: comet\n"),
    "another tracker's key": ("tracker", "kind: mlflow\nproject: mine\n"),
    "no such data": ("data", "kind: imagenet\n"),
    "a misspelt section of an experiment": ("experiment", "trainin:\n  run:\n    seed: 1\n"),
    "a deep mistake of an experiment": ("experiment", "training:\n  run:\n    sede: 1\n"),
    "an alias in an experiment": ("experiment", "training:\n  lr: 1e-4\n"),
    "a time of nothing": ("engine", "stop_seconds: 0\n"),
    "no such sampler": ("sweep", "sweep:\n  sampler: bayes\n"),
}
SOUND = {
    "a difference": ("training", "defaults:\n  - default\noptim:\n  lr: 1e-3\n"),
    "an interpolation": ("training", "run:\n  seed: ${oc.env:SEED}\n"),
    "a part of a kind": ("tracker", "defaults:\n  - wandb\nmode: offline\n"),
    "a value still to give": ("data", "defaults:\n  - mine\ntrain: ???\n"),
    "an alias": ("training", "lr: ${.optim.lr}\n"),
    "an experiment": ("experiment", "# @package _global_\ntraining:\n  optim:\n    lr: 1e-3\n"),
    "a list of inputs": ("experiment", "input: [a.wav, b.wav]\n"),
    "one input": ("experiment", "input: a.wav\n"),
}


def refused(project: Path, group: str, files: Iterable[Path]) -> dict[str, str]:
    """Files that the schema of a group refuses, and what is said of them."""
    schema = project / FOLDER / f"{SCHEMA.get(group, group).replace('/', '.')}.json"
    command = ["-m", "check_jsonschema", "--schemafile", str(schema), "-o", "json"]
    done = subprocess.run(
        [sys.executable, *command, *map(str, files)], capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert found.get("parse_errors", []) == [], done.stdout
    return {error["filename"]: error["message"] for error in found.get("errors", [])}


@pytest.fixture(scope="module")
def project(render: Render, task: Task) -> Project:
    """With its schemas, as make install writes them."""
    project = Project(render(**FULL, task=task.name, project_name="Schemas"), task=task)
    project.run(WRITE)
    return project


def test_shipped_files_fit_and_mistakes_do_not(project: Project, tmp_path: Path) -> None:
    mistakes = MISTAKES | project.task.flawed
    folders = {
        path.parent.relative_to(project.path / "conf")
        for path in project.path.glob("conf/*/**/*.yaml")
    }
    groups = {folder.as_posix() for folder in folders if folder.parts[0] != "hydra"}
    assert {group for group, _ in (*mistakes.values(), *SOUND.values())} <= groups
    for group in groups:
        shipped = sorted((project.path / "conf" / group).glob("*.yaml"))
        assert shipped
        shipped += [project.path / "conf" / "config.yaml"] if group == "experiment" else []
        wrong: list[Path] = []
        right: list[Path] = []
        for files, examples in ((wrong, mistakes), (right, SOUND)):
            for name, (of_group, text) in examples.items():
                if of_group == group:
                    files.append(tmp_path / f"{name}.yaml")
                    files[-1].write_text(text)
        said = refused(project.path, group, [*shipped, *wrong, *right])
        assert set(said) == set(map(str, wrong)), said


def test_editors_find_a_schema_for_each_file(project: Project) -> None:
    settings = json.loads((project.path / ".vscode" / "settings.json").read_text())
    found: dict[Path, str] = {}
    for schema, patterns in settings["yaml.schemas"].items():
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found |= dict.fromkeys(project.path.glob(pattern), schema)
    files = [f for f in (project.path / "conf").rglob("*.yaml") if "hydra" not in f.parts]
    for file in files:
        if file.stem == "renamed":  # any names
            continue
        path = file.parent.relative_to(project.path / "conf").parts
        group = ".".join(path) or "config"
        assert found[file] == str(FOLDER / f"{SCHEMA.get(group, group)}.json")
    written = {str(FOLDER / file.name) for file in (project.path / FOLDER).iterdir()}
    assert written == set(settings["yaml.schemas"])


def test_git_ignores_them(project: Project) -> None:
    assert f"\n{FOLDER.as_posix()}/\n" in (project.path / ".gitignore").read_text()


def test_editors_show_what_stands_under_a_field(project: Project) -> None:
    shown = json.loads((project.path / FOLDER / "config.json").read_text())
    fields = shown["$defs"]["Run"]["properties"]
    assert fields["accumulate"]["description"].startswith("Micro-batches per iteration")
    assert "description" not in fields["seed"]  # which has none
    assert shown["$defs"]["Run"]["description"].startswith("How long a run trains")


@pytest.mark.task("speech")
def test_a_change_of_the_types_reaches_them(project: Project, tmp_path: Path) -> None:
    types = project.path / "schemas" / "config" / "training.py"
    text = types.read_text().replace('Literal["sgd"]', 'Literal["sgd", "lion"]')
    types.write_text(text.replace("The keys of every optimizer.", "What steps."))
    lion = tmp_path / "lion.yaml"
    lion.write_text("optim:\n  kind: lion\n  momentum: 0.9\n")
    assert str(lion) in refused(project.path, "training", [lion])
    project.run(WRITE)
    assert refused(project.path, "training", [lion]) == {}
    schema = (project.path / FOLDER / "training.optim.json").read_text()
    assert "conf/training/optim/sgd.yaml" in schema
