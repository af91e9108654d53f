"""The first hour with one's own data: the README's commands, on speech, photos and irises."""

import json
import os
import re
import resource
import subprocess

import pytest

from .commands import SMALL, Finished, Project, copy_project

pytestmark = pytest.mark.slow

CPU_SECONDS = 180


@pytest.fixture(scope="module")
def own(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with data of one's own beside its train.py."""
    copy = copy_project(project.path, tmp_path_factory.mktemp("own") / "project")
    project.task.own_data.write(copy)
    return Project(copy, task=project.task)


def readme_commands(project: Project) -> list[str]:
    """The commands of the README's section on data of one's own."""
    text = (project.path / "README.md").read_text()
    section = text.partition("### Your own ")[2].partition("\n## ")[0]
    return re.findall(r"^    (python train\.py .*?) *(?:#.*)?$", section, re.MULTILINE)


def learn_own_data(own: Project) -> None:
    """Type the commands of the section; the model must learn in the time that they promise."""
    describe, train, evaluate = readme_commands(own)
    for command in (describe, train, evaluate):
        values = [key for key in re.findall(r"(\S+)=", command) if "." in key or key == "name"]
        assert len(values) <= 2, command
    (printed,) = own.run(describe).stdout.splitlines()[-1:]
    assert train.startswith(printed), "it prints the next command"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own.run(train, PYTHONUNBUFFERED="1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < CPU_SECONDS
    name = own.name(own.run(evaluate))
    (metrics,) = own.path.glob(f"runs/*/evaluate/{name}/metrics.json")
    assert own.task.own_data.is_learned(json.loads(metrics.read_text()))


@pytest.mark.task("speech", "vision", "blank")
def test_the_readmes_commands_learn_ones_own_data(own: Project) -> None:
    learn_own_data(own)


@pytest.mark.long
@pytest.mark.task("text")
def test_the_readmes_commands_learn_ones_own_texts(own: Project) -> None:
    learn_own_data(own)


FIX = re.compile(r"(?:^ +|: )((?:python train\.py|mv|sed) .*)", re.MULTILINE)


def shell(project: Project, script: str) -> Finished:
    """Run what is typed into bash, whose last command, if it is python, is a fork."""
    python = "python() { printf '%s\\0' \"$@\"; }\n"
    command = ["bash", "-c", python + script]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        return done
    return project.attempt(done.stdout.split("\0")[:-1], dict(os.environ))


def test_each_error_of_the_data_prints_the_command_that_fixes_it(own: Project) -> None:
    data = own.task.own_data
    assert shell(own, data.spoil).returncode == 0
    command, followed = f"python train.py {data.spoiled}", []
    while (done := shell(own, f"{command} mode=check {SMALL}")).returncode:
        assert "problem" in done.stderr, done.stderr
        fix = FIX.findall(done.stderr)[0]
        assert fix not in followed, done.stderr
        followed.append(fix)
        if fix.startswith("python") and "mode=describe" not in fix:
            command = fix.replace(f" mode=check {SMALL}", "")
            continue
        fixed = shell(own, fix)
        assert fixed.returncode == 0, fixed.stderr
        if "mode=describe" in fix:
            command = fixed.stdout.splitlines()[-1]
    assert {fix.split()[0] for fix in followed} == {"python", *data.mended_by}
