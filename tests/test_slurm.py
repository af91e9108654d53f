"""On a real Slurm of two nodes: the scripts, a sweep through submitit, time limits, requeueing."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from . import slurm
from .commands import (
    SMALL,
    Project,
    Render,
    broken_code,
    jobs,
    record,
    table,
    wait_for,
    weights,
)
from .test_sweeps import read

# what the little nodes have: no GPU, two cores
LITTLE = "--gpus=0 --cpus-per-task=1"
LITTLE_NODES = "--gpus-per-node=0 --cpus-per-task=1"
LOCAL = """\
# @package _global_
slurm:
  partition: main
  gpus: 0
  cpus: 1
"""
# longer than the half minute after which Slurm first looks at time limits
LONGER = f"{SMALL} training.iter_num=1700 training.run.eval_every=1700 training.run.log_every=500"


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """What Slurm's commands need in their environment."""
    if lacking := slurm.missing():
        reason = f"no Slurm here: {', '.join(lacking)} missing"
        assert "SLURM_EXPECTED" not in os.environ, reason  # .ci/run installs it
        pytest.skip(reason)
    with slurm.cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def there(render: Render, cluster: dict[str, str]) -> Project:
    """A project with the interpreter of these tests as its environment."""
    path = render(project_name="On Slurm", slurm=True)
    environment = path / ".venv"
    if not environment.exists():
        environment.symlink_to(sys.prefix)
    (path / "conf" / "local").mkdir(exist_ok=True)
    (path / "conf" / "local" / "default.yaml").write_text(LOCAL)
    return Project(path)


@pytest.fixture
def sbatch(there: Project, cluster: dict[str, str]) -> "Sbatch":
    return Sbatch(there, cluster)


class Sbatch:
    """Jobs of one test."""

    def __init__(self, project: Project, cluster: dict[str, str]) -> None:
        self.project = project
        self.environment = {k: v for k, v in os.environ.items() if k != "RUN_NAME"} | cluster

    def __call__(self, command: str, **variables: str) -> str:
        """Submit; returns the job's id."""
        done = self.slurm(f"sbatch --parsable {command}", **variables)
        return done.strip()

    def slurm(self, command: str, **variables: str) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.project.path,
            env=self.environment | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def output(self, job: str) -> str:
        files = self.project.path.glob(f"slurm-{job}*.out")
        return "\n".join(file.read_text() for file in files)

    def wait_for(self, job: str, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(text, self.output(job)):
            assert time.monotonic() < deadline, self.output(job)
            time.sleep(0.1)

    def wait(self, job: str, seconds: float = 150) -> str:
        """Until it has left the queue for good; returns what it printed."""
        deadline = time.monotonic() + seconds
        while self.slurm(f"squeue --noheader --array --jobs={job} 2>/dev/null || true"):
            assert time.monotonic() < deadline, self.output(job)
            time.sleep(0.3)
        return self.output(job)


def test_one_node(sbatch: Sbatch, there: Project) -> None:
    job = sbatch(f"{LITTLE} scripts/train.sbatch model=dryrun training=dryrun")
    said = sbatch.wait(job)
    assert said.startswith(f"name=slurm-{job}\n")
    assert "iteration 4: best cer" in said
    run = there.path / "runs" / f"slurm-{job}"
    assert record(run)["state"] == "finished"
    there.run(f"python train.py {SMALL} name=by-hand", OMP_NUM_THREADS="1")
    assert weights(run) == weights(there.path / "runs/by-hand")


def test_a_sweep_of_three_jobs(sbatch: Sbatch, there: Project) -> None:
    grid = f"--multirun hydra/launcher=slurm {SMALL} name=three-jobs training.lr=1e-4,1e30,1e-3"
    done = there.run(f"python train.py {grid}", status=1, **sbatch.environment)
    sweep = there.path / "runs/three-jobs"
    assert jobs(sweep) == {"lr=0.0001", "lr=1e+30", "lr=0.001"}
    states = {row["job"]: row["state"] for row in table(sweep)}
    assert states == {"lr=0.0001": "finished", "lr=0.001": "finished", "lr=1e+30": "failed"}
    assert "failed: lr=1e+30: a loss or gradient is not finite at iteration" in done.stdout
    numbers = {(sweep / job / "slurm.id").read_text() for job in jobs(sweep)}
    assert len(numbers) == 3, "a Slurm job for each"
    there.run(f"python train.py {SMALL} training.lr=1e-3 name=alone")
    assert weights(sweep / "lr=0.001") == weights(there.path / "runs/alone")
    again = there.run(f"python train.py {grid}", status=1, **sbatch.environment).stdout
    assert again.count("finished before: ") == 2
    assert "1 jobs submitted" in again


def test_jobs_of_a_command_that_leaves_run_what_was_submitted(
    sbatch: Sbatch, there: Project
) -> None:
    """The project is broken from the submission to the end; one job is requeued."""
    more = f"{SMALL} training.iter_num=200 training.run.eval_every=200"
    one_thread = sbatch.environment | {"OMP_NUM_THREADS": "1"}
    grid = f"python train.py --multirun hydra/launcher=slurm wait=false {more} name=left"
    grid += " training.lr=1e-4,1e30"
    sweep = there.path / "runs/left"
    sbatch.slurm("scontrol update partition=main state=down")
    left = there.run(grid, status=0, **one_thread).stdout
    assert "2 jobs submitted" in left
    assert re.search(r"\nwaiting: lr=0.0001: Slurm job \d+_0, pending \(PartitionDown\)\n", left)
    numbers = {job: (sweep / job / "slurm.id").read_text() for job in ("lr=0.0001", "lr=1e+30")}
    with broken_code(there.path):
        sbatch.slurm("scontrol update partition=main state=up")
        log = sweep / "lr=0.0001/train.log"
        wait_for(lambda: "iteration 20/200" in read(log), 120)
        sbatch.slurm(f"scancel --signal=USR2 {numbers['lr=0.0001']}")
        for number in numbers.values():
            sbatch.wait(number, 300)
    assert "continues after iteration" in read(log)
    again = there.run(grid, status=1, **one_thread).stdout
    assert "finished before: lr=0.0001" in again
    assert "0 jobs submitted, 1 already in the queue" in again
    assert "failed: lr=1e+30: a loss or gradient is not finite at iteration" in again
    assert "wait=true submits them again" in again
    there.run(f"python train.py {more} training.lr=1e-4 name=stayed", OMP_NUM_THREADS="1")
    assert weights(sweep / "lr=0.0001") == weights(there.path / "runs/stayed")


@pytest.mark.long
def test_a_requeued_script_runs_the_code_of_its_first_start(sbatch: Sbatch, there: Project) -> None:
    more = f"{SMALL} training.iter_num=400 training.run.eval_every=400"
    job = sbatch(f"{LITTLE} scripts/train.sbatch {more}")
    sbatch.wait_for(job, "iteration 50/400", 120)
    edited = there.path / "on_slurm/model.py"
    original = edited.read_text()
    edited.write_text("def (:\n")
    try:
        sbatch.slurm(f"scancel --signal=USR1 --full {job}")
        said = sbatch.wait(job)
    finally:
        edited.write_text(original)
    assert "back in Slurm's queue" in said
    run = there.path / "runs" / f"slurm-{job}"
    assert record(run)["code"].startswith(f"runs/slurm-{job}/.code/")
    there.run(f"python train.py {more} name=at-once", OMP_NUM_THREADS="1")
    assert weights(run) == weights(there.path / "runs/at-once")


@pytest.mark.long
def test_an_array(sbatch: Sbatch, there: Project) -> None:
    long = f"{SMALL} training.iter_num=400 training.run.eval_every=400"
    each = f"'model=dryrun training=dryrun' '{long}'"
    job = sbatch(f"{LITTLE} --array=0-1 scripts/sweep_array.sbatch {each}")
    sweep = there.path / "runs" / f"slurm-{job}"
    output = sweep / "model=dryrun,training=dryrun,eval_every=400,iter_num=400/output.log"
    wait_for(lambda: "iteration 50/400" in read(output), 120)
    sbatch.slurm(f"scancel --signal=USR1 --full {job}_1")
    said = sbatch.wait(job)
    assert said.count("back in Slurm's queue") == 1
    assert re.search(r"continues after iteration \d+ of 400", read(output))
    assert len(jobs(sweep)) == 2, "a directory for each, requeued or not"
    assert {row["state"] for row in table(sweep)} == {"finished"}


def test_two_nodes(sbatch: Sbatch, there: Project) -> None:
    more = "model=dryrun training=dryrun training.iter_num=40"
    # both nodes are this machine, whose name is not theirs
    variables = {"RUN_DEVICES": "1", "RUN_FIRST_NODE": "localhost", "OMP_NUM_THREADS": "1"}
    job = sbatch(f"{LITTLE_NODES} scripts/train_multinode.sbatch {more}", **variables)
    sbatch.wait_for(job, "iteration 10/")
    sbatch.slurm(f"scancel --signal=USR1 {job}")
    said = sbatch.wait(job)
    assert "parameters on 2 " in said
    assert "back in Slurm's queue" in said
    assert re.search(r"continues after iteration \d+ of 40", said)
    assert said.count(f"name=slurm-{job}\n") == 2, "one node speaks, once each time"
    assert "Traceback" not in said
    run = there.path / "runs" / f"slurm-{job}"
    assert record(run)["state"] == "finished"
    there.run(f"python train.py {more} training.devices=2 name=two-devices", OMP_NUM_THREADS="1")
    assert weights(run) == weights(there.path / "runs/two-devices")


def test_a_node_that_stays_away_is_named_by_its_host(sbatch: Sbatch, there: Project) -> None:
    script = there.path / "lonely.sbatch"
    script.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks=2 --output=slurm-%j.out\n"
        "source .venv/bin/activate\nexport RUN_NODES=2 RUN_FIRST_NODE=localhost\n"
        "srun bash -c 'if [ $SLURM_NODEID = 1 ]; then exec sleep 9; fi; "
        f"exec python train.py {SMALL} name=lonely engine.join_seconds=4'\n"
    )
    job = sbatch("lonely.sbatch")
    assert "missing: node 1 (n2)" in sbatch.wait(job)


@pytest.mark.long
def test_time_limits_lose_nothing(sbatch: Sbatch, there: Project) -> None:
    """One job by script and one by submitit, each longer than its limit lets it run."""
    limit = f"{LITTLE} --time=1 --signal=B:USR1@50"
    job = sbatch(f"{limit} scripts/train.sbatch {LONGER}")
    little_time = "slurm.minutes=1 slurm.warn_seconds=50"
    grid = f"--multirun hydra/launcher=slurm {little_time} name=limited {LONGER}"
    # one of two cores each, as before
    one_thread = sbatch.environment | {"OMP_NUM_THREADS": "1"}
    there.run(f"python train.py {grid}", status=0, **one_thread)
    said = sbatch.wait(job)
    for run in (there.path / "runs" / f"slurm-{job}", *(there.path / "runs/limited").glob("m*")):
        about = record(run)
        assert about["state"] == "finished", said
        assert len(about["earlier"]) >= 1, "it was stopped on the way"
        assert {entry["state"] for entry in about["earlier"]} == {"stopped"}
    assert said.count("back in Slurm's queue; the same job resumes later") >= 1
    assert re.search(r"continues after iteration \d+ of 1700", said)
    there.run(f"python train.py {LONGER} name=uninterrupted", OMP_NUM_THREADS="1")
    uninterrupted = weights(there.path / "runs/uninterrupted")
    assert weights(there.path / "runs" / f"slurm-{job}") == uninterrupted
    (limited,) = (there.path / "runs/limited").glob("m*")
    assert weights(limited) == uninterrupted


@pytest.mark.long
def test_pruned_trials_are_not_requeued(sbatch: Sbatch, render: Render) -> None:
    path = render(project_name="Pruned", slurm=True, task="blank", parts=["search"])
    environment = path / ".venv"
    if not environment.exists():
        environment.symlink_to(sys.prefix)
    (path / "conf" / "local").mkdir(exist_ok=True)
    (path / "conf" / "local" / "default.yaml").write_text(LOCAL)
    space = "'training.lr=tag(log,interval(1e-9,1e-2))' training.weight_decay=0.01 sweep.seed=59"
    pruner = "sweep.pruner=median sweep.pruning.n_startup_trials=1 sweep.sampler=random"
    longer = "training.iter_num=4000 training.eval_every=50 training.objective.metric=loss"
    search = f"--multirun sweep=optuna hydra/launcher=slurm sweep.n_trials=3 name=pruned {pruner}"
    more = f"model=tiny training=fastrun training.num_workers=0 {longer}"
    Project(path).run(f"python train.py {search} {more} {space}", status=0, **sbatch.environment)
    rows = table(path / "runs/pruned")
    assert [row["state"] for row in rows].count("pruned") >= 1
    assert not sbatch.slurm("squeue --me --noheader").strip(), "none is requeued"
    for row in rows:
        about = record(path / "runs/pruned" / row["job"])
        assert (about["state"], about["earlier"]) == (row["state"], [])


def test_a_running_job_that_is_cancelled_is_reported_so(sbatch: Sbatch, there: Project) -> None:
    grid = f"--multirun hydra/launcher=slurm {LONGER} name=cancelled training.lr=1e-4"
    environment = sbatch.environment
    process = subprocess.Popen(
        [there.python, "train.py", *grid.split()],
        cwd=there.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    sweep = there.path / "runs/cancelled"
    deadline = time.monotonic() + 60
    while not (found := list(sweep.glob("*/record.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    number = (found[0].parent / "slurm.id").read_text()
    sbatch.slurm(f"scancel --signal=KILL --full {number}")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"cancelled, ended by (SIGTERM|Slurm .*); see runs/cancelled/.submitit", said)


def test_a_waiting_job_that_is_cancelled_is_reported_so(sbatch: Sbatch, there: Project) -> None:
    grid = f"--multirun hydra/launcher=slurm slurm.max_jobs=1 {SMALL} name=waited"
    grid += " training.iter_num=4,400"
    process = subprocess.Popen(
        [there.python, "train.py", *grid.split()],
        cwd=there.path,
        env=sbatch.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    second = there.path / "runs/waited/iter_num=400/slurm.id"
    deadline = time.monotonic() + 60
    while not second.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sbatch.slurm(f"scancel {second.read_text()}")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "/2 iter_num=400: cancelled, ended by Slurm (" in said
    assert "\ncancelled: iter_num=400: " in said
    states = {row["training.run.iter_num"]: row["state"] for row in table(second.parents[1])}
    assert states == {"4": "finished", "400": "cancelled"}


def test_the_scripts_want_sbatch(there: Project) -> None:
    for script in sorted((there.path / "scripts").glob("*.sbatch")):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
        done = subprocess.run(
            ["bash", str(script)], cwd=there.path, env=environment, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert "submit this script with sbatch" in done.stderr, script
