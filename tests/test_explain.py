"""mode=explain: every value, where it comes from, what it overrode."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from .commands import Project

EXPLAINED = Path(__file__).with_name("explained.py")


@pytest.mark.slow
@pytest.mark.task("speech")
def test_it_says_what_hydra_does(project: Project) -> None:
    """Every shipped option and random combinations: values, origins, and what they overrode."""
    task = project.task
    of_the_task = [task.embedded, task.seed, task.count]
    done = subprocess.run(
        [project.python, str(EXPLAINED), "my_project", "30", "1", *of_the_task],
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    *problems, last = done.stdout.splitlines()
    assert problems == [], done.stdout[-3000:]
    assert int(last.split()[0]) >= 45, done.stderr


@pytest.mark.task("speech")
def test_a_key_tells_its_history_oldest_first(project: Project) -> None:
    said = project.run(
        "python train.py mode=explain key=training.lr experiment=quick training.lr=3e-4"
    ).stdout
    assert said.splitlines()[0] == "training.optim.lr = 0.0003"
    values, places = zip(*(line.split(maxsplit=1) for line in said.splitlines()[1:]), strict=True)
    assert values == ("1e-4", "2e-3", "3e-4")
    assert places[0].startswith("conf/training/optim/adamw.yaml:")
    assert places[1].startswith("conf/training/fastrun.yaml:")
    assert places[2] == "the command line: training.lr=3e-4"
    for value, place in zip(values[:2], places[:2], strict=True):
        file, line = place.split(":")
        text = (project.path / file).read_text().splitlines()[int(line) - 1]
        assert text.strip().startswith(f"lr: {value}")


@pytest.mark.task("speech")
def test_the_tree_shows_interpolations_and_aliases(project: Project) -> None:
    said = project.run("python train.py mode=explain training.lr=3e-4 name=x").stdout
    lines = {line.strip() for line in said.splitlines()}
    assert any(
        line.startswith("lr: ${.optim.lr} = 0.0003") and line.endswith(", an alias")
        for line in lines
    )
    assert any(
        "lr: 0.0003" in line and "the command line: training.lr=3e-4, over" in line
        for line in lines
    )
    assert not (project.path / "runs" / "x").exists(), "it only reads"
    assert "\x1b" not in said, "plain in a pipe"


@pytest.mark.task("speech")
def test_colour_on_a_terminal(project: Project) -> None:
    ours, theirs = pty.openpty()
    command = [project.python, "train.py", "mode=explain", "key=data"]
    process = subprocess.Popen(command, cwd=project.path, stdout=theirs)
    process.wait(30)
    os.close(theirs)
    assert "\x1b[2mconf/data/" in os.read(ours, 100_000).decode()


@pytest.mark.task("speech")
def test_json_for_programs(project: Project) -> None:
    said = project.run("python train.py mode=explain format=json training=dryrun").stdout
    about = json.loads(said)
    assert about["training.iter_num"]["value"] == 4
    assert about["training.iter_num"]["written"] == "${.run.iter_num}"
    assert [place["value"] for place in about["training.run.iter_num"]["history"]] == [
        "100000",
        "4",
    ]


@pytest.mark.task("speech")
def test_a_config_that_is_refused_is_explained(project: Project) -> None:
    command = "python train.py mode=explain key=training.optim training.optim.lrr=1 training.lr=-1"
    done = project.run(command, status=2)
    assert "lrr: 1" in done.stdout
    assert "lr: -1" in done.stdout
    assert "did you mean training.optim.lr?" in done.stderr
    assert "training.optim.lr = -1: expected greater than 0" in done.stderr


@pytest.mark.task("speech")
def test_a_key_that_is_not_there(project: Project) -> None:
    done = project.run("python train.py mode=explain key=training.optm", status=2)
    assert (
        "key = training.optm: no such key in this config; did you mean training.optim?"
        in done.stderr
    )


@pytest.mark.task("speech")
def test_a_pipe_that_closes_is_no_error(project: Project) -> None:
    done = subprocess.run(
        f"{project.python} train.py mode=explain | head -n 2",
        shell=True,
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[0] == "model"
    assert done.stderr == ""
