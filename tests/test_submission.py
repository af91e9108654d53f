"""What is submitted is what runs: queued jobs run a copy of the code of their submission."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .commands import Project, broken_code, copy_project, record, start, wait_for, weights

pytestmark = pytest.mark.task("blank")

TINY = "model=tiny training=dryrun training.iter_num=60 training.run.eval_every=60"
GRID = f"--multirun {TINY} training.lr=1e-3,1e-4"


@pytest.fixture
def own(project: Project, tmp_path: Path) -> Project:
    """A project that a test may edit."""
    return Project(copy_project(project.path, tmp_path / "own"), task=project.task)


def edit_model(project: Project, line: str) -> None:
    with (project.path / "my_project/model.py").open("a") as file:
        file.write(f"\n{line}\n")


def copies(sweep: Path) -> list[str]:
    return [path.name for path in (sweep / ".code").iterdir()]


def test_jobs_run_the_code_of_their_submission(own: Project, project: Project) -> None:
    project.run(f"python train.py {TINY} training.lr=1e-4 name=alone")
    alone = weights(project.path / "runs/alone")
    sweep = own.path / "runs/edited"
    process = start(own, f"{GRID} name=edited", "2 jobs, 1 at once")
    wait_for((sweep / "lr=0.001/record.json").exists)
    with broken_code(own.path):
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert weights(sweep / "lr=0.0001") == alone
    (copy,) = copies(sweep)
    assert record(sweep / "lr=0.0001")["code"] == f"runs/edited/.code/{copy}"
    size = sum(path.stat().st_size for path in (sweep / ".code").rglob("*.*") if path.is_file())
    assert size < 2e6, "the code alone, not the data or the runs"
    # the same command again, with the same code and with other code
    own.run(f"python train.py {GRID} name=edited")
    assert copies(sweep) == [copy]
    edit_model(own, "# edited")
    own.run(f"python train.py {GRID},1e-5 name=edited")
    assert len(copies(sweep)) == 2
    edit_model(own, "# edited again")
    told = own.run(f"python train.py {GRID} name=edited mode=check").stdout
    assert "3 jobs ran other code than today's: lr=0.0001, lr=0.001, lr=1e-05" in told
    reported = own.run("python train.py mode=report input=runs/edited")
    assert "not all runs used the same code: see the column code" in reported.stderr


def test_jobs_run_the_code_of_today_if_asked(own: Project) -> None:
    process = start(own, f"{GRID} name=today code=now", "2 jobs, 1 at once")
    sweep = own.path / "runs/today"
    wait_for((sweep / "lr=0.001/record.json").exists)
    edit_model(own, "raise LookupError('edited')")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1/2 lr=0.001: finished" in said
    assert "2/2 lr=0.0001: failed, status 1, LookupError: edited" in said
    assert not (sweep / ".code").exists()
    assert record(sweep / "lr=0.001")["code"] is None


def test_a_copy_records_the_commit_of_its_submission(own: Project) -> None:
    git = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, *command], cwd=own.path, check=True)
    edit_model(own, "# edited")
    own.run(f"python train.py --multirun {TINY} name=committed")
    (job,) = (own.path / "runs/committed").glob("*/record.json")
    about = record(job.parent)
    assert about["git"]["uncommitted"] == [" M my_project/model.py"]
    assert "+# edited" in (job.parent / "uncommitted.diff").read_text()
    assert "git apply" in about["reproduce"]


def test_a_copy_that_does_not_fit_is_refused(
    project: Project, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("400k")
    refused = project.run(f"python train.py {GRID} name=full runs_dir={disk}", status=2)
    assert f"code = submitted: cannot copy the code to {disk}/full/.code (No space left on" in (
        refused.stderr
    )
    assert "or code=now" in refused.stderr
    assert list((disk / "full/.code").iterdir()) == [], "nothing is left of it"
