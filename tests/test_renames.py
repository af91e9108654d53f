"""conf/renamed.yaml: command lines, experiments and old runs with their old names."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .commands import Project, Render, copy_project, jobs, prepared, weights

pytestmark = pytest.mark.task("blank")

HISTORIES = Path(__file__).parent / "renamed.py"
TRAIN = "model=dryrun training=dryrun tracker=none training.num_workers=0"

WRONG = {
    "a circle": ("1.0:\n  a: b\n  b: a\n", "renamed.yaml:2: a: b: the names lead in a circle"),
    "a circle of values": (
        "1.0:\n  data.kind=a: b\n  data.kind=b: a\n",
        "renamed.yaml:3: data.kind=b: a: the names lead in a circle",
    ),
    "a section that moves into itself": ("1.0:\n  model: model.net\n", ":2: model: model.net: the"),
    "a key that is not there": (
        "1.0:\n  training.optim.rate: training.optim.lrr\n",
        "renamed.yaml:2: training.optim.rate: training.optim.lrr: conf/ has no training.optim.lrr; "
        "did you mean training.optim.lr?",
    ),
    "an old key that still exists": (
        "1.0:\n  training.optim.lr: training.run.seed\n",
        ":2: training.optim.lr: training.run.seed: conf/ still has training.optim.lr; rename or",
    ),
    "an old option that still exists": ("1.0:\n  model=base: tiny\n", "conf/ still has model=base"),
    "an option that is not there": ("1.0:\n  model=small: tin\n", "conf/ has no model=tin"),
    "a value of no key": ("1.0:\n  data.sort=a: b\n", ":2: data.sort=a: b: conf/ has no data.sort"),
    "two new names": (
        "1.0:\n  model.x: model.width\n2.0:\n  model.x: model.layers\n",
        ":2: model.x: model.width: conf/renamed.yaml:4 renames it too",
    ),
    "no new name": ("1.0:\n  model.x:\n", "renamed.yaml:2: model.x: : conf/ has no "),
    "no version": ("model.x: model.width\n", "renamed.yaml:1: model.x: expected lines OLD: NEW"),
    "a list": ("- model.x\n", "conf/renamed.yaml: expected lines OLD: NEW below a VERSION:"),
    "a mapping for a name": ("1.0:\n  a: {b: c}\n", "renamed.yaml:2: a: expected lines OLD: NEW"),
    "damaged YAML": ("1.0: [a\n", "renamed.yaml:2:1: not valid YAML: expected ',' or ']'"),
    "a conflict": ("<<<<<<< a\n1.0: {}\n=======\n", "renamed.yaml:1: not valid YAML: <<<<<<< is a"),
}


@pytest.fixture(scope="module")
def history(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the sweep runs/old of two finished jobs."""
    copied = copy_project(project.path, tmp_path_factory.mktemp("renames") / "project")
    with_runs = Project(copied, task=project.task)
    with_runs.run(f"python train.py --multirun {TRAIN} name=old training.lr=1e-3,2e-3")
    return with_runs


@pytest.mark.parametrize("kind", ["key", "value", "option"])
def test_thirty_renames_leave_old_runs_usable(history: Project, kind: str) -> None:
    done = subprocess.run(
        [history.python, HISTORIES, "my_project", kind, "30", "runs/old/lr=0.001"],
        cwd=history.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_line_is_named(history: Project, mistake: str) -> None:
    text, problem = WRONG[mistake]
    file = history.path / "conf/renamed.yaml"
    before = file.read_text()
    file.write_text(text)
    (outcome,) = prepared(history, [["mode=explain"]])
    file.write_text(before)
    assert outcome.startswith("refused ")
    assert problem in outcome


def test_a_job_is_identified_by_what_it_learns(history: Project) -> None:
    others = f"{TRAIN.replace('num_workers=0', 'num_workers=1')} training.run.log_every=3"
    done = history.run(f"python train.py --multirun {others} name=old training.lr=1e-3,2e-3")
    assert done.stdout.count("finished before: ") == 2
    # a key that is swept identifies, whatever it is
    several = TRAIN.replace("num_workers=0", "num_workers=0,1")
    done = history.run(f"python train.py --multirun {several} name=old training.lr=1e-3")
    assert done.stdout.count("finished before: ") == 1
    assert jobs(history.path / "runs/old") == {"lr=0.001", "lr=0.002", "num_workers=1"}


def rename(project: Path) -> None:
    """Rename a key, an option and a value, as somebody does it in a project."""
    for file, old, new in (
        ("my_project/config/model.py", "width: P", "dim: P"),
        ("my_project/model.py", "model.width", "model.dim"),
        ("conf/model/base.yaml", "width:", "dim:"),
        ("conf/model/tiny.yaml", "width:", "dim:"),
        ("conf/model/dryrun.yaml", "width:", "dim:"),
        ("conf/model/base.yaml", "kind: perceptron", "kind: mlp"),
        ("my_project/config/model.py", 'Literal["perceptron"]', 'Literal["mlp"]'),
    ):
        text = (project / file).read_text()
        assert old in text, f"{file}: {old}"
        (project / file).write_text(text.replace(old, new))
    (project / "conf/model/dryrun.yaml").rename(project / "conf/model/smoke.yaml")


def test_without_renames_an_old_run_whose_key_is_gone_is_reported(
    render: Render, tmp_path: Path
) -> None:
    own = Project(copy_project(render(task="blank", parts=[]), tmp_path / "own"))
    own.run("python train.py model=dryrun training=dryrun model.width=9 name=single")
    rename(own.path)
    refused = own.run("python train.py mode=evaluate checkpoint=runs/single", status=2).stderr
    assert "it recorded model.width=9, which conf/ does not have" in refused
    assert "copier update --defaults -d 'parts=[renames, …]' adds renames" in refused


def test_old_runs_and_commands_work_after_a_rename(history: Project, tmp_path: Path) -> None:
    renamed = Project(tmp_path / "project", task=history.task)
    shutil.copytree(history.path, renamed.path)
    lines = shlex.split(f"model.width=9 {TRAIN} name=single training.run.iter_num=8")
    renamed.run(f"python train.py {shlex.join(lines)}")
    before = weights(renamed.path / "runs/single")
    rename(renamed.path)
    evaluate = "python train.py mode=evaluate checkpoint=runs/single"
    # without a line the run says which one it needs
    refused = renamed.run(evaluate, status=2).stderr
    assert "it recorded model.width=9, which conf/ does not have" in refused
    assert "conf/renamed.yaml needs, below VERSION:\n      model.width: NEW_NAME" in refused
    report = renamed.run("python train.py mode=report").stderr
    assert "recorded model.width; if it has another name now, conf/renamed.yaml needs" in report

    mapped = {"0.2.0": {"model.width": "model.dim"}, "0.3.0": {"model=dryrun": "smoke"}}
    mapped["0.3.0"]["model.kind=perceptron"] = "mlp"
    (renamed.path / "conf/renamed.yaml").write_text(yaml.safe_dump(mapped))
    done = renamed.run(evaluate)
    assert "with model.dim=9 model=smoke, as the run recorded" in done.stdout
    assert "unlike the run" not in done.stdout
    assert done.stderr.count("model.width is now model.dim, since 0.2.0") == 1

    # the old command line and the new one resume it, and change nothing
    for model in ("model=dryrun model.width=9", "model=smoke model.dim=9"):
        resumed = shlex.split(TRAIN)[1:]
        done = renamed.run(
            f"python train.py {model} {shlex.join(resumed)} name=single training.run.iter_num=8"
        )
        assert "nothing to train" in done.stdout
        assert weights(renamed.path / "runs/single") == before

    # the sweep finds its jobs, also with other workers and another tracker
    others = TRAIN.replace("num_workers=0", "num_workers=1").replace("model=dryrun", "model=smoke")
    done = renamed.run(f"python train.py --multirun {others} name=old training.lr=1e-3,2e-3")
    assert done.stdout.count("finished before: ") == 2
    renamed.run("python train.py mode=report")
    columns = (renamed.path / "runs/report.csv").read_text().partition("\n")[0].split(",")
    assert "model.dim" in columns
    assert "model.width" not in columns
