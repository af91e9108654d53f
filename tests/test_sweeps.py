"""--multirun: grids, searches, and jobs side by side."""

import fcntl
import os
import re
import shlex
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from .commands import (
    LONG,
    SMALL,
    Project,
    Render,
    copy_project,
    jobs,
    record,
    signal_group,
    start,
    table,
    wait_for,
    weights,
)

pytestmark = pytest.mark.task("speech")

# the loss tells jobs of four iterations apart, the error rate hardly does
LOSS = "training.objective.metric=loss"
# a copy of the code is run by a Python that starts anew, which takes seconds
NOW = "code=now"
OPTUNA = f"--multirun sweep=optuna {SMALL} {LOSS}"


def test_a_grid_prints_how_its_jobs_compare(project: Project) -> None:
    command = f"python train.py --multirun {SMALL} {LOSS} name=compared training.lr=1e-4,1e30,2e-3"
    done = project.run(command, status=1)
    sweep = project.path / "runs/compared"
    rows = table(sweep)
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["job"] for row in rows] == [f"lr={row['training.optim.lr']}" for row in rows]
    assert {rows[0]["job"], rows[1]["job"]} == {"lr=0.002", "lr=0.0001"}
    assert float(rows[0]["loss"]) < float(rows[1]["loss"]), "the best first"
    assert re.search(
        r"failed: lr=1e\+30: a loss or gradient is not finite .* loss nan", done.stdout
    )
    # the best job's command line gives what the job gave, seeds and all
    best = done.stdout.rstrip().splitlines()[-1].strip()
    assert shlex.split(best)[:2] == ["python", "train.py"]
    project.run(f"{best} name=best-again")
    assert weights(project.path / "runs/best-again") == weights(sweep / rows[0]["job"])
    # once more: the failed one alone
    again = project.run(command, status=1).stdout
    assert again.count("finished before: ") == 2
    assert "1/1 lr=1e+30: failed, a loss or gradient is not finite" in again
    assert jobs(sweep) == {"lr=0.002", "lr=0.0001", "lr=1e+30"}


def test_a_second_sweep_of_a_name_says_which_jobs_are_in_use(project: Project) -> None:
    grid = f"--multirun {LONG} name=at-once training.lr=1e-4,3e-4 {NOW}"
    sweep = project.path / "runs/at-once"
    first = start(project, f"{grid} hydra/launcher=local", "2 jobs, 2 at once")
    for job in ("lr=0.0001", "lr=0.0003"):
        wait_for(lambda job=job: "iteration 3/" in read(sweep / job / "output.log"))
    began = {path.parent.name: path.read_text() for path in sweep.glob("*/.lock")}
    pids = [int(holder.split()[1]) for holder in began.values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # it holds its lock without using a core
    for launcher in ("serial", "local"):
        second = project.run(f"python train.py {grid} hydra/launcher={launcher}", status=1).stdout
        for job, holder in began.items():
            assert f"\nin use: {job}: {holder}\n" in second
        assert "failed" not in second
        assert {row["state"] for row in table(sweep)} == {"running"}
    first.kill()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    # of a process that has ended but is not yet reaped, it is empty
    wait_for(lambda: not any(read(Path(f"/proc/{pid}/cmdline")) for pid in pids), seconds=5)


@pytest.mark.long
def test_a_local_sweep_says_which_jobs_run_and_kills_one_that_hangs(project: Project) -> None:
    times = "sweep.status_minutes=0.02 sweep.job_minutes=0.3 engine.shutdown_seconds=1"
    grid = f"--multirun {SMALL} name=hangs hydra/launcher=local training.iter_num=4,100000 {times}"
    hanging = project.path / "runs/hangs/iter_num=100000"
    process = start(project, grid, "2 jobs, 2 at once")
    wait_for((hanging / ".lock").exists)
    os.kill(int((hanging / ".lock").read_text().split()[1]), signal.SIGSTOP)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"running: iter_num=100000 \(\d+ s\)", said)
    expected = "timed out, ended by SIGKILL; see runs/hangs/iter_num=100000/output.log"
    assert f"2/2 iter_num=100000: {expected}" in said
    states = {row["job"]: row["state"] for row in table(hanging.parent)}
    assert states == {"iter_num=4": "finished", "iter_num=100000": "timed out"}


def test_hydra_mode_in_a_file_is_refused(project: Project) -> None:
    experiment = project.path / "conf/experiment/several.yaml"
    experiment.write_text("# @package _global_\nhydra: {mode: MULTIRUN}\n")
    try:
        refused = project.run(f"python train.py {SMALL} experiment=several", status=2).stderr
    finally:
        experiment.unlink()
    assert "hydra.mode = RunMode.MULTIRUN: give --multirun instead" in refused
    assert "from conf/experiment/several.yaml:2" in refused


def test_of_a_key_given_twice_the_last_one_counts(project: Project) -> None:
    grid = f"python train.py --multirun {SMALL} mode=check"
    assert "jobs" not in project.run(f"{grid} training.seed=1,2 training.seed=1").stdout
    done = project.run(f"{grid} training.seed=1 training.seed=1,2 name=checked")
    assert "valid in each of 2 jobs; below is the first" in done.stdout
    assert "runs/checked: 2 jobs" in done.stdout


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_launcher_without_multirun_is_refused(project: Project, launcher: str) -> None:
    refused = project.run(f"python train.py {SMALL} hydra/launcher={launcher}", status=2).stderr
    assert f"hydra/launcher={launcher}: " in refused
    assert "--multirun" in refused


def test_a_sweep_may_stop_at_the_first_failure(project: Project) -> None:
    more = "sweep.on_error=stop name=stop training.lr=1e-4,1e30,2e-3"
    project.run(f"python train.py --multirun {SMALL} {more}", status=1)
    rows = table(project.path / "runs/stop")
    assert {row["job"]: row["state"] for row in rows} == {
        "lr=0.0001": "finished",
        "lr=1e+30": "failed",
    }


def test_a_grid_that_grows_knows_its_jobs(project: Project) -> None:
    grid = "python train.py --multirun training=dryrun name=grows"
    project.run(f"{grid} model=dryrun training.lr=1e-4,3e-4")
    before = {job: (project.path / "runs/grows" / job).stat().st_mtime_ns for job in ("lr=0.0001",)}
    done = project.run(f"{grid} training.lr=0.0003,1e-4 model=tiny,dryrun").stdout
    assert done.count("finished before: ") == 2
    assert jobs(project.path / "runs/grows") == {
        "lr=0.0001",
        "lr=0.0003",
        "model=tiny,lr=0.0001",
        "model=tiny,lr=0.0003",
    }
    assert before["lr=0.0001"] == (project.path / "runs/grows/lr=0.0001").stat().st_mtime_ns
    assert {row["model"] for row in table(project.path / "runs/grows")} == {"tiny", "dryrun"}


def test_a_run_and_a_sweep_do_not_share_a_name(project: Project) -> None:
    grid = f"python train.py --multirun {SMALL} training.lr=1e-4,3e-4"
    project.run(f"python train.py {SMALL} name=single")
    assert "is a single run" in project.run(f"{grid} name=single", status=2).stderr
    project.run(f"{grid} name=many")
    refused = project.run(f"python train.py {SMALL} name=many", status=2).stderr
    assert "holds the jobs of a sweep" in refused
    for job in ("lr=0.0001", "lr=0.0003"):
        assert "iteration 4/4" in (project.path / "runs/many" / job / "train.log").read_text()
    never = project.run(f"{grid} name=many resume=never", status=2).stderr
    assert never.count("has checkpoints, and resume=never") == 2


def test_a_sweep_is_for_one_machine(project: Project) -> None:
    grid = f"python train.py --multirun {SMALL} name=nodes training.lr=1e-4,3e-4"
    said = project.run(grid, status=2, RUN_NODES="2").stderr
    assert "engine.nodes = 2: a sweep's jobs use one machine each" in said
    said = project.run(f"python train.py {SMALL}", status=2, RUN_DEVICES="foo").stderr
    assert "the environment's RUN_DEVICES=foo" in said


def test_jobs_of_the_same_name_keep_apart(project: Project) -> None:
    for seed in (1, 2):
        grid = f"python train.py --multirun {SMALL} name=apart training.seed={seed}"
        project.run(f"{grid} training.lr=1e-4,3e-4")
    assert len(jobs(project.path / "runs/apart")) == 4
    assert {(row["training.run.seed"]) for row in table(project.path / "runs/apart")} == {"1", "2"}


def test_jobs_side_by_side_are_those_one_after_another(project: Project) -> None:
    grid = f"--multirun {SMALL} training.iter_num=40 training.lr=1e-4,3e-4,1e-3"
    project.run(f"python train.py {grid} name=in-turn", OMP_NUM_THREADS="1")
    beside = f"python train.py {grid} name=beside hydra/launcher=local"
    done = project.run(beside, OMP_NUM_THREADS="1")
    assert "3 jobs, 2 at once" in done.stdout
    assert len(table(project.path / "runs/beside")) == 3
    for job in ("lr=0.0001", "lr=0.0003", "lr=0.001"):
        one, other = (project.path / "runs" / name / job for name in ("beside", "in-turn"))
        assert weights(one) == weights(other)
        assert "iteration 40/40" in (one / "output.log").read_text()
    assert jobs(project.path / "runs/beside") == jobs(project.path / "runs/in-turn")


def test_a_job_that_is_killed_takes_no_other_with_it(project: Project) -> None:
    grid = f"--multirun {SMALL} hydra/launcher=local name=killed-job training.iter_num=100"
    grid += f" training.run.eval_every=100 training.lr=1e-4,3e-4,1e-3 {NOW}"
    sweep = project.path / "runs/killed-job"
    process = start(project, grid, "3 jobs, 2 at once")
    wait_for((sweep / "lr=0.0003/record.json").exists)
    lock = (sweep / "lr=0.0003/.lock").read_text()
    os.kill(int(lock.split()[1]), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    states = {row["job"]: row["state"] for row in table(sweep)}
    assert states == {"lr=0.0001": "finished", "lr=0.001": "finished", "lr=0.0003": "failed"}
    assert "lr=0.0003: failed, ended by SIGKILL; see runs/killed-job/lr=0.0003/output.log" in said
    assert "\nfailed: lr=0.0003: ended by SIGKILL\n" in said
    again = project.run(f"python train.py {grid}").stdout
    assert again.count("finished before: ") == 2
    assert {row["state"] for row in table(sweep)} == {"finished"}


def test_a_signal_stops_jobs_side_by_side_and_they_resume(project: Project) -> None:
    grid = f"--multirun {SMALL} hydra/launcher=local name=paused training.iter_num=200 {NOW}"
    grid += " training.num_workers=2 training.run.eval_every=200 training.lr=1e-4,3e-4,1e-3"
    sweep = project.path / "runs/paused"
    process = start(project, grid, "3 jobs, 2 at once")
    for job in ("lr=0.0001", "lr=0.0003"):
        wait_for(lambda job=job: "iteration 9/" in read(sweep / job / "output.log"))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"resume with: python train.py {grid}" in said
    assert record(sweep / "lr=0.0001")["state"] == "stopped"
    assert not (sweep / "lr=0.001").exists(), "no other job began"
    project.run(f"python train.py {grid}")
    assert "continues after iteration" in read(sweep / "lr=0.0003/output.log")
    assert {row["state"] for row in table(sweep)} == {"finished"}


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


GPUS = """
from pathlib import Path
from omegaconf import OmegaConf
from my_project.engine.sweeps import local
from my_project.engine.sweeps.grid import Job

local.visible_gpus = lambda: [str(number) for number in range(4, 12)]
launcher = local.Local("auto")
launcher.composed = OmegaConf.create({"training": {"run": {"device": "auto", "devices": 1}}})
several = ["training.run.devices=4", "training.run.devices=2"]
for at_once, overrides in ("auto", ["model=tiny"]), ("auto", several), (16, ["model=tiny"]):
    launcher.at_once = at_once
    resources = launcher._resources([Job([override], Path()) for override in overrides])
    print(*[each["CUDA_VISIBLE_DEVICES"] for each in resources])
"""


def test_gpus_are_shared_out(project: Project) -> None:
    """What the environment of each job would say on a machine with GPUs 4 to 11."""
    assert project.run(f"python -c {shlex.quote(GPUS)}").stdout.splitlines() == [
        "4 5 6 7 8 9 10 11",
        "4,5,6,7 8,9,10,11",
        "4 5 6 7 8 9 10 11 4 5 6 7 8 9 10 11",
    ]


WITHOUT_A_RESULT = """
from pathlib import Path
from omegaconf import OmegaConf
from my_project.engine.sweeps.grid import Job
from my_project.engine.sweeps.slurm import Slurm

slurm = Slurm(wait=True)
slurm.composed = OmegaConf.create({"hydra": {"sweep": {"dir": "runs/no-result"}}})
began = Path("runs/no-result/.submitit/1/1_0_log.out")
began.parent.mkdir(parents=True, exist_ok=True)
began.touch()
cases = ("1", "NODE_FAIL"), ("1", ""), ("2", ""), ("1", "TIMEOUT"), ("1", "OUT_OF_MEMORY")
for number, state in cases:
    job = Job([], Path("runs/no-result", f"job{number}"))
    job.directory.mkdir(exist_ok=True)
    (job.directory / "slurm.id").write_text(number)
    print(*slurm.outcome(job, {number: (state, "")} if state else {})[:2], sep=", ")
"""


def test_a_slurm_job_without_a_result_has_its_state(project: Project) -> None:
    script = shlex.quote(WITHOUT_A_RESULT)
    assert project.run(f"python -c {script}").stdout.splitlines() == [
        "lost, ended by Slurm (NODE_FAIL)",
        "lost, ended by Slurm (it is no longer in the queue)",
        "cancelled, ended by Slurm (it is no longer in the queue)",
        "timed out, ended by Slurm (TIMEOUT)",
        "failed, ended by Slurm (OUT_OF_MEMORY)",
    ]


@pytest.mark.long
def test_jobs_of_several_processes(project: Project) -> None:
    grid = f"--multirun {SMALL} name=twos training.devices=2 training.lr=1e-4,3e-4"
    project.run(f"python train.py {grid}")
    sweep = project.path / "runs/twos"
    assert jobs(sweep) == {"lr=0.0001", "lr=0.0003"}
    assert len([path for path in sweep.iterdir() if path.is_dir()]) == 2


def test_another_sweeper_works_as_well(project: Project) -> None:
    command = f"python train.py --multirun hydra/sweeper=basic {SMALL} name=basic"
    project.run(f"{command} training.lr=1e-4,3e-4")
    found = {job.rpartition(",")[2] for job in jobs(project.path / "runs/basic")}
    assert len(jobs(project.path / "runs/basic")) == 2, found


def test_a_bug_in_one_job_stops_no_other(project: Project, tmp_path: Path) -> None:
    copy = copy_project(project.path, tmp_path / "p")
    training = copy / "my_project/training.py"
    text = training.read_text()
    anchor = "    model = build_model(cfg)"
    assert anchor in text
    bug = "    if optim.lr == 3e-4:\n        raise KeyError('a bug')\n"
    training.write_text(text.replace(anchor, bug + anchor))
    grid = f"--multirun {SMALL} name=buggy training.lr=3e-4,1e-3"
    done = subprocess.run(
        [project.python, "train.py", *grid.split()],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "KeyError: 'a bug'" in read(copy / "runs/buggy/lr=0.0003/output.log")
    assert "1/2 lr=0.0003: failed" in done.stdout
    states = {row["job"]: row["state"] for row in table(copy / "runs/buggy")}
    assert states == {"lr=0.001": "finished", "lr=0.0003": "failed"}


# searches


def trials(sweep: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(sweep / "optuna.db") as database:
        return list(database.execute("select number, state from trials order by number"))


def test_a_trial_in_use_is_left_for_later(project: Project) -> None:
    command = f"python train.py {OPTUNA} name=held sweep.n_trials=1 sweep.sampler=random"
    command += " training.lr=choice(1e-3) training.weight_decay=0.01"
    sweep = project.path / "runs/held"
    (sweep / "lr=0.001").mkdir(parents=True)
    with (sweep / "lr=0.001/.lock").open("w") as lock:
        lock.write("process 1 on elsewhere")
        lock.flush()
        fcntl.lockf(lock, fcntl.LOCK_EX)
        said = project.run(command, status=1).stdout
    assert "in use: lr=0.001: process 1 on elsewhere" in said
    assert trials(sweep) == [(0, "RUNNING")]
    project.run(command)
    assert trials(sweep) == [(0, "COMPLETE")]


@pytest.mark.long
def test_a_killed_search_resumes(project: Project) -> None:
    command = f"{OPTUNA} name=search sweep.n_trials=4 sweep.parallel=2 hydra/launcher=local"
    command += " training.iter_num=200 training.run.eval_every=200 training.checkpoint.every=20"
    sweep = project.path / "runs/search"
    process = start(project, command, "name=search")
    wait_for(lambda: len(list(sweep.glob("*/checkpoints/iteration-*"))) >= 2)
    signal_group(process)  # its jobs end with it
    began = {path.parent.name for path in sweep.glob("*/checkpoints")}
    project.run(f"python train.py {command}")
    assert trials(sweep) == [(number, "COMPLETE") for number in range(4)]
    assert len(jobs(sweep)) == 4, "each trial has its own directory"
    assert began < jobs(sweep), "the first two resume in theirs"
    assert any("continues after" in read(sweep / job / "output.log") for job in began)
    # the total is there already, a larger one is a continuation
    assert "jobs" not in project.run(f"python train.py {command}").stdout.partition("loss")[0]
    project.run(f"python train.py {command.replace('n_trials=4', 'n_trials=5')}")
    assert len(trials(sweep)) == len(jobs(sweep)) == 5
    rows = table(sweep)
    assert [float(row["loss"]) for row in rows] == sorted(float(row["loss"]) for row in rows)
    # another space or other fixed values are another search
    other = project.run(f"python train.py {command} training.lr=interval(1e-3,1)", status=2)
    assert "training.optim.lr: then tag(log,interval(" in other.stderr.replace(
        " interval", "interval"
    )
    assert "give another name" in other.stderr


def test_failed_trials_are_tried_again(project: Project) -> None:
    # two values alone, so that some are drawn twice
    space = "training.lr=choice(1e30,1e29) training.weight_decay=0.01"
    command = f"python train.py {OPTUNA} name=hard sweep.n_trials=4 sweep.sampler=random {space}"
    project.run(command, status=1)
    before = jobs(project.path / "runs/hard")
    project.run(command, status=1)
    assert jobs(project.path / "runs/hard") >= before
    assert {state for _, state in trials(project.path / "runs/hard")} == {"FAIL"}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes"])
def test_every_sampler_searches(project: Project, sampler: str) -> None:
    more = f"name=by-{sampler} sweep.sampler={sampler} sweep.n_trials=2"
    project.run(f"python train.py {OPTUNA} {more}")
    assert len(table(project.path / "runs" / f"by-{sampler}")) == 2


def test_a_study_in_use_or_of_something_else_is_refused(project: Project) -> None:
    command = f"python train.py {OPTUNA} sweep.n_trials=1"
    project.run(f"{command} name=locked")
    with sqlite3.connect(project.path / "runs/locked/optuna.db") as database:
        database.execute("begin exclusive")
        done = project.run(f"{command} name=locked", status=2)
    assert "runs/locked/optuna.db: database is locked" in done.stderr.replace("(", "")
    (project.path / "runs/foreign").mkdir()
    (project.path / "runs/foreign/optuna.db").write_text("not a database, but a text\n" * 100)
    done = project.run(f"{command} name=foreign", status=2)
    assert "runs/foreign/optuna.db: file is not a database" in done.stderr.replace("(", "")


WRONG = {
    "a misspelt key": (
        "training.otpim.lr=1e-4,1e-3",
        ["training.otpim.lr = 0.001: no such key", "did you mean training.optim.lr?"],
    ),
    "one bad value": (
        "training.lr=1e-4,-1",
        ["training.optim.lr = -1: expected greater than 0", "from the command line"],
    ),
    "an interval": (
        "training.lr=interval(0,1)",
        ["training.optim.lr=interval(0,1): a grid has no intervals", "sweep=optuna"],
    ),
    "nothing to search": (
        "sweep.sampler=tpe",
        ["sweep.sampler = tpe: nothing to search", "tag(log, interval(1e-5, 1e-2))"],
    ),
    "another sampler": (
        "sweep.sampler=bayes training.lr=1,2",
        ["sweep.sampler = bayes: expected 'grid', 'tpe', 'random', 'gp' or 'cmaes'"],
    ),
    "too many devices": (
        "training.devices=1,99",
        ["training.run.devices = 99: expected at most"],
    ),
    "several names": (
        "name=aa,bb training.lr=1e-4,1e-3",
        ["name=aa,bb: all jobs of a sweep share it; expected one value of name"],
    ),
    "a reversed interval": (
        "sweep.sampler=tpe training.lr=interval(1e-2,1e-5)",
        ["interval(1e-2,1e-5): expected interval(LOW, HIGH), the lower one first"],
    ),
    "an empty range": ("training.lr=range(1,1)", ["range(1,1): the range is empty"]),
    "another tag": (
        "sweep.sampler=tpe training.lr=tag(lg,interval(1e-5,1e-2))",
        ["no such tag as lg; expected log"],
    ),
    "nothing to explain": (
        "mode=explain training.lr=1e-4,1e-3",
        ["mode=explain explains one config: leave out --multirun"],
    ),
    "one process for all": (
        "hydra/launcher=basic training.lr=1e-4,1e-3",
        ["expected one of local, serial, slurm"],
    ),
    "another launcher": (
        "hydra/launcher=foo training.lr=1e-4,1e-3",
        ["expected one of local, serial, slurm"],
    ),
    "no job at once": (
        "hydra/launcher=local hydra.launcher.at_once=0 training.lr=1e-4,1e-3",
        ["hydra.launcher.at_once = 0: expected a number of jobs, 1 or more, or auto"],
    ),
    "a logarithm of nothing": (
        "sweep.sampler=tpe training.weight_decay=tag(log,interval(0,1))",
        ["tag(log,interval(0,1)): a logarithmic scale is for an interval above 0"],
    ),
    "no Slurm": (
        "hydra/launcher=slurm training.lr=1e-4,1e-3",
        ["hydra/launcher=slurm: "],  # the package, the cluster or its answer, as the machine may be
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_reported_before_the_first_job(project: Project, what: str) -> None:
    overrides, expected = WRONG[what]
    name = what.replace(" ", "-")
    done = project.run(f"python train.py --multirun {SMALL} name={name} {overrides}", status=2)
    for text in expected:
        assert text in done.stderr
    assert not list((project.path / "runs" / name).glob("*/.hydra"))


def test_a_project_without_searches_says_how_to_add_them(render: Render) -> None:
    refused = Project(render()).run("python train.py --multirun sweep=optuna", status=2).stderr
    assert "sweep=optuna: this project was rendered without search\n" in refused
    assert "copier update --defaults -d 'parts=[search, …]'" in refused


def test_a_misspelt_key_of_a_search_is_reported_before_the_first_job(project: Project) -> None:
    search = project.path / "conf/sweep/misspelt.yaml"
    text = (project.path / "conf/sweep/optuna.yaml").read_text()
    search.write_text(text.replace("optim.weight_decay", "optim.weight_decoy"))
    try:
        command = f"python train.py --multirun sweep=misspelt {SMALL} name=misspelt"
        done = project.run(command, status=2)
    finally:
        search.unlink()
    assert "did you mean training.optim.weight_decay?" in done.stderr
    assert "from the search space, hydra.sweeper.params" in done.stderr
    assert not (project.path / "runs/misspelt/optuna.db").exists()


def test_a_grid_is_refused_where_a_job_was_trained_with_another_config(project: Project) -> None:
    command = f"python train.py --multirun {SMALL} name=edited training.lr=1e-4,3e-4"
    project.run(command)
    preset = project.path / "conf/training/dryrun.yaml"
    text = preset.read_text()
    preset.write_text(text.replace("warmup_steps: 1", "warmup_steps: 2"))
    try:
        done = project.run(command, status=2)
    finally:
        preset.write_text(text)
    changed = "training.optim.scheduler.warmup_steps: then 1, now 2"
    assert done.stderr.count(changed) == 2
    assert re.search(r"runs/edited/lr=0.0001 was trained with another config", done.stderr)


def test_an_interrupted_sweep_resumes_with_the_job_it_was_in(project: Project) -> None:
    grid = f"--multirun {LONG} name=in-one training.lr=1e-4,3e-4 {NOW}"
    output = project.path / "runs/in-one/lr=0.0001/output.log"
    process = start(project, grid, "2 jobs, 1 at once")
    wait_for(lambda: "iteration 9/" in read(output))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "resume with: python train.py --multirun" in said
    again = start(project, grid, "2 jobs, 1 at once")
    wait_for(lambda: "continues after iteration" in read(output))
    signal_group(again)
    assert jobs(project.path / "runs/in-one") == {"lr=0.0001"}
