"""Runs survive kills, damage, full disks and each other; some refuse to resume."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .commands import LONG, SMALL, Finished, Project, Render, record, signal_group, start, weights
from .kills import VARIANTS, kill_and_compare


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(project: Project) -> None:
    tries = len(VARIANTS) if project.task.name == "speech" else 1
    for what, same in kill_and_compare(project, tries, 3):
        assert same, what


@pytest.mark.task("speech")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_prints_how_to_resume(project: Project, name: str) -> None:
    number = signal.Signals[name]
    process = start(project, f"{LONG} name={name} training.num_workers=1", "iteration 5/")
    signal_group(process, number)  # the data worker gets it as well
    said, _ = process.communicate()
    assert process.returncode == 128 + number
    stopped = re.search(rf"stopped after iteration (\d+) .*; saved in runs/{name}", said)
    assert stopped, said
    assert f"resume with: python train.py {LONG}" in said
    assert f"name={name}" in said.rpartition("resume with:")[2]
    assert "Traceback" not in said
    assert record(project.path / "runs" / name)["state"] == "stopped"
    done = int(stopped[1]) + 2
    longer = LONG.replace("100000", str(done), 1)
    shorter = project.run(f"python train.py {longer} name={name} resume=force")
    assert f"continues after iteration {stopped[1]} of {done}" in shorter.stdout
    steps = [
        json.loads(line)["step"]
        for line in (project.path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert steps == list(range(1, done + 1)), "no step twice, none left out"


@pytest.mark.task("speech")
@pytest.mark.parametrize("devices", [1, 2])
def test_a_second_signal_stops_at_once_and_loses_nothing_older(
    project: Project, devices: int
) -> None:
    more = f"name=twice{devices} training.checkpoint.every=3 training.devices={devices}"
    process = start(project, f"{LONG} {more}", "iteration 8/")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    said, _ = process.communicate()
    assert time.monotonic() - began < 4
    assert process.returncode in (130, 143, -signal.SIGTERM)
    assert "Traceback" not in said
    again = start(project, f"{LONG} {more}", r"continues after iteration ([6-9]|\d\d)")
    signal_group(again)


@pytest.mark.task("speech")
@pytest.mark.parametrize(
    ("devices", "name", "after"),
    [(1, "SIGTERM", 0.0), (1, "SIGINT", 0.2), (2, "SIGINT", 0.4), (2, "SIGTERM", 0.8)],
)
def test_a_signal_during_start_up_leaves_nothing_broken(
    project: Project, devices: int, name: str, after: float
) -> None:
    command = f"{SMALL} training.iter_num=200 training.run.eval_every=200"
    command += f" training.devices={devices} name=early-{name}-{devices}"
    process = start(project, command, "name=early")
    time.sleep(after)
    signal_group(process, signal.Signals[name])
    said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in said
    assert "iteration 200: best" in project.run(f"python train.py {command}").stdout


# train.py, which gets SIGINT in the midst of OmegaConf's work
INTERRUPTED = """
import os, runpy, signal, sys
left, begun = int(sys.argv.pop(1)), False
def interrupt(frame, event, _):
    global left, begun
    name = frame.f_code.co_name
    begun |= name == "prepare"
    if begun and event == "call" and name == "_set_flag":
        left -= 1
        if not left:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)
sys.path.insert(0, "")
sys.setprofile(interrupt)
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.task("speech")
def test_an_interrupt_while_the_config_is_composed_ends_the_command(project: Project) -> None:
    for call in range(60, 400, 40):
        given = [*SMALL.split(), "training.iter_num=4", "training.warmup_steps=2", "name=ended"]
        command = [sys.executable, "-c", INTERRUPTED, str(call), *given]
        done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "\ninterrupted\n"), call


@pytest.mark.task("speech")
def test_no_process_outlives_a_run_that_is_killed(project: Project) -> None:
    process = start(project, f"{LONG} name=orphans training.devices=2", "iteration 3/")
    process.kill()
    process.wait()

    def alive() -> str:
        return subprocess.run(
            ["ps", "-s", str(process.pid), "-o", "pid="], capture_output=True, text=True
        ).stdout

    deadline = time.monotonic() + 8
    while alive() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive()


@pytest.mark.task("speech")
def test_the_second_run_of_a_name_is_told(project: Project) -> None:
    process = start(project, f"{LONG} name=shared training.num_workers=1", "iteration 3/")
    process.send_signal(signal.SIGSTOP)  # it holds its lock without using a core
    kept = (project.path / "runs/shared/.hydra/overrides.yaml").read_text()
    refused = project.run(f"python train.py {SMALL} name=shared", status=2)
    assert f"runs/shared is in use by process {process.pid} on " in refused.stderr
    assert "another name" in refused.stderr
    assert (project.path / "runs/shared/.hydra/overrides.yaml").read_text() == kept
    refused = project.run(f"python train.py mode=check {SMALL} name=shared", status=2)
    assert "is in use" in refused.stderr
    process.kill()  # its data worker lives a little longer, and must not keep the lock
    process.wait()
    project.run(f"python train.py {SMALL} name=shared resume=force")
    signal_group(process)


@pytest.mark.task("speech")
def test_a_requeued_slurm_job_takes_over_from_its_earlier_process(project: Project) -> None:
    job = {"SLURM_JOB_ID": "7"}
    requeued = job | {"SLURM_RESTART_COUNT": "1"}
    # nobody reads its output meanwhile, and a full pipe would stop it
    quiet = "training.run.log_every=100 training.checkpoint.every=100000"
    command = f"{LONG} name=lost-node {quiet}"
    process = start(project, command, "iteration 100/", **job)
    by = f"runs/lost-node is in use by process {process.pid} on "
    for other in ({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}, job):
        refused = project.run(f"python train.py {command}", status=2, **other).stderr
        assert by in refused
        assert "waiting" not in refused
    process.send_signal(signal.SIGSTOP)  # one that does not answer
    little = "engine.takeover_seconds=1"
    refused = project.run(f"python train.py {command} {little}", status=2, **requeued).stderr
    assert f"waiting for process {process.pid} on " in refused
    assert by in refused
    process.send_signal(signal.SIGCONT)
    again = start(project, command, "continues after iteration", **requeued)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "this Slurm job was requeued and waits for" in said
    assert "saved in runs/lost-node" in said
    signal_group(again)
    assert not (project.path / "runs/lost-node/.lock-request").exists()


NO_LOCKS = (
    "import errno, fcntl, runpy, sys\n"
    'def lockf(*_): raise OSError(errno.ENOLCK, "No locks available")\n'
    "fcntl.lockf = lockf\n"
    'sys.argv[0] = "train.py"\n'
    'runpy.run_path("train.py", run_name="__main__")'
)


@pytest.mark.task("speech")
def test_a_file_system_without_locks_is_mentioned_once(project: Project) -> None:
    done = project.run(f"python -c '{NO_LOCKS}' {SMALL} name=no-locks training.num_workers=0")
    warning = "runs/no-locks: no locks here (No locks available); start no second run of this name"
    assert (done.stdout + done.stderr).count(warning) == 1
    assert warning in (project.path / "runs/no-locks/train.log").read_text()


@pytest.fixture(scope="module")
def finished(project: Project) -> Path:
    """A finished run of eight iterations, to be copied and damaged."""
    more = "training.iter_num=8 training/optim/scheduler=constant"
    project.run(f"python train.py {SMALL} {more} name=intact")
    return project.path / "runs" / "intact"


@pytest.mark.task("speech")
@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("weights.safetensors", "cut"),
        ("state.pt", "flipped"),
        ("checkpoint.json", "missing"),
        ("checkpoint.json", "cut"),
    ],
)
def test_a_damaged_checkpoint_is_left_out(
    project: Project, finished: Path, tmp_path: Path, file: str, how: str
) -> None:
    """By a run that resumes, which takes the one before, and by whoever names it."""
    run = tmp_path / "intact"
    shutil.copytree(finished, run)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    damaged = newest / file
    data = damaged.read_bytes()
    if how == "cut":
        damaged.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        damaged.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    else:
        damaged.unlink()
    more = "training.iter_num=8 training/optim/scheduler=constant"
    command = f"python train.py {SMALL} {more} runs_dir={tmp_path} name=intact"
    done = project.run(command)
    assert "continues after iteration 6 of 8" in done.stdout
    if not (how == "missing" and file == "checkpoint.json"):  # without it, it is no checkpoint
        assert f"{newest} is damaged and left out: {file}" in done.stdout
    assert weights(run) == weights(finished)


@pytest.mark.task("speech")
def test_every_find_damage_a_checkpoint_is_recognized(
    project: Project, finished: Path, tmp_path: Path
) -> None:
    newest = tmp_path / "checkpoint"
    shutil.copytree(sorted((finished / "checkpoints").iterdir())[-1], newest)
    check = (
        "import sys; from pathlib import Path\n"
        "from my_project.engine.checkpoints.files import find_damage\n"
        "folder = Path(sys.argv[1]); missed = tried = 0\n"
        "assert find_damage(folder) is None\n"
        "for file in sorted(folder.iterdir()):\n"
        "    data = file.read_bytes()\n"
        "    for at in range(0, len(data), max(1, len(data) // 300)):\n"
        "        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])\n"
        "        missed += find_damage(folder) is None; tried += 1\n"
        "    file.write_bytes(data[: len(data) // 2])\n"
        "    missed += find_damage(folder) is None\n"
        "    file.unlink()\n"
        "    missed += find_damage(folder) is None\n"
        "    file.write_bytes(data)\n"
        "print(tried, missed)\n"
    )
    done = subprocess.run(
        [project.python, "-c", check, str(newest)],
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    tried, missed = map(int, done.stdout.split())
    assert tried > 800
    assert missed == 0


@pytest.mark.task("speech")
def test_a_full_disk_loses_nothing(
    project: Project, finished: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("2m")
    more = "training.iter_num=8 training/optim/scheduler=constant"
    command = f"python train.py {SMALL} {more} runs_dir={disk} name=intact"
    full = f"{command} training.checkpoint.keep_last=1"
    process = start(project, full.removeprefix("python train.py "), "evaluation at iteration 4")
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:  # somebody else fills the disk
        while True:
            try:
                file.write(b"0" * 4096)
            except OSError:
                break
    said, _ = process.communicate()
    assert process.returncode == 2, said
    assert re.search(r"iteration-00000000[468] could not be saved: .*MB are free", said), said
    assert "training continues" in said or "iteration-000000008 could not be saved" in said
    assert "make room" in said
    assert "Traceback" not in said
    assert "Logging error" not in said
    filler.unlink()
    done = project.run(full)
    assert re.search(r"continues after iteration [246] of 8", done.stdout)
    assert weights(disk / "intact") == weights(finished)


@pytest.mark.task("speech")
def test_a_disk_too_small_is_told_before_the_run(
    project: Project, small_disk: Callable[[str], Path]
) -> None:
    done = project.run(f"python train.py mode=check runs_dir={small_disk('2m')}", status=2)
    assert re.search(r"GB free, but 4 checkpoints of 0\.4\d+ GB each need 1\.7", done.stderr)
    assert "keep_last" in done.stderr


@pytest.mark.task("speech")
def test_a_directory_that_cannot_be_written_is_told(project: Project, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    bind = f"mount --bind {locked} {locked} && mount -o remount,ro,bind {locked}"
    if os.geteuid() or subprocess.run(["sh", "-c", bind], capture_output=True).returncode:
        pytest.skip("only root may mount a folder read-only")
    try:
        done = project.run(f"python train.py {SMALL} runs_dir={tmp_path} name=locked", status=2)
    finally:
        subprocess.run(["umount", "-l", str(locked)], check=True)
    assert f"cannot write in {locked} (Read-only file system)" in done.stderr


@pytest.mark.task("speech")
def test_force_continues_with_todays_optimizer_settings(project: Project, finished: Path) -> None:
    """Loading a torch optimizer's state would bring back the learning rate of then."""
    run = project.path / "runs" / "forced-rate"
    shutil.copytree(finished, run)
    before = weights(run)
    still = "training/optim/scheduler=constant training.weight_decay=0 training.lr=1e-30"
    command = f"python train.py {SMALL} name=forced-rate training.iter_num=10 {still}"
    refused = project.run(command, status=2)
    assert "training.optim.lr: then 0.0001, now 1e-30" in refused.stderr
    assert "another name" in refused.stderr
    assert "resume=force" in refused.stderr
    done = project.run(f"{command} resume=force")
    assert "continues after iteration 8 of 10" in done.stdout
    assert weights(run) == before, "a rate of 1e-30 moves no weight"
    changed = record(run)["changed"]
    assert isinstance(changed, list)
    assert "training.optim.lr: then 0.0001, now 1e-30" in changed


@pytest.mark.task("speech")
def test_what_does_not_change_the_learning_may_change(project: Project, finished: Path) -> None:
    run = project.path / "runs" / "harmless"
    shutil.copytree(finished, run)
    more = "training.iter_num=9 training/optim/scheduler=constant training.num_workers=1"
    cadence = "training.run.log_every=3 training.checkpoint.keep_last=1"
    done = project.run(f"python train.py {SMALL} name=harmless {more} {cadence}")
    assert "continues after iteration 8 of 9" in done.stdout


@pytest.mark.task("speech")
def test_never_refuses_a_directory_with_checkpoints(project: Project, dryrun: str) -> None:
    done = project.run(f"python train.py {SMALL} name={dryrun} resume=never", status=2)
    assert f"runs/{dryrun} has checkpoints, and resume=never" in done.stderr
    assert "another name" in done.stderr


INCOMPATIBLE = {
    "a resumed run": "name={0} training=dryrun model=tiny resume=force",
    "fine-tuning": "name=new training=dryrun model=tiny init=runs/{0}",
    "evaluate": "mode=evaluate checkpoint=runs/{0} model=tiny",
    "the task's own mode": "mode={1} checkpoint=runs/{0} model=tiny input=conf",
    "check": "mode=check checkpoint=runs/{0} model=tiny",
}


@pytest.mark.task("blank")
@pytest.mark.parametrize("command", INCOMPATIBLE.values(), ids=INCOMPATIBLE.keys())
def test_weights_of_another_width_are_told_with_the_keys(
    project: Project, dryrun: str, command: str
) -> None:
    command = command.format(dryrun, project.task.mode)
    done = project.run(f"python train.py {command}", status=2)
    assert "do not fit this model" in done.stderr
    then, now = project.task.widths
    assert f"{project.task.width}: then {then}, now {now}" in done.stderr
    assert "give what it was trained with: model=dryrun" in done.stderr
    assert not (project.path / "runs" / "new").exists()


def test_another_dropout_fits(project: Project, dryrun: str) -> None:
    dropout = project.task.dropout
    done = project.run(f"python train.py mode=evaluate checkpoint=runs/{dryrun} {dropout}=0.3")
    assert re.search(rf"unlike the run: {dropout}: then 0.\d, now 0.3", done.stdout)


@pytest.mark.task("speech")
def test_a_checkpoint_of_a_newer_format_is_told(
    project: Project, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "newer"
    shutil.copytree(finished, run)
    file = sorted((run / "checkpoints").iterdir())[-1] / "checkpoint.json"
    about = {**json.loads(file.read_text()), "format": 2}
    del about["sha256"]
    about["sha256"] = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    file.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    for command in (f"mode=evaluate checkpoint={run}", f"{SMALL} runs_dir={tmp_path} name=newer"):
        done = project.run(f"python train.py {command}", status=2)
        assert "has format 2, and this code reads format 1" in done.stderr


@pytest.mark.task("blank")
def test_skip_leaves_bad_iterations_out_up_to_a_limit(project: Project) -> None:
    wild = "training.lr=1e30 training.optim.grad_clip=null training.warmup_steps=0"
    more = "training.iter_num=50 training.run.on_nonfinite=skip engine.skip_at_most=3"
    done = project.run(f"python train.py {SMALL} {wild} {more} name=skipping", status=2)
    assert len(re.findall(r"iteration \d+ is skipped", done.stdout)) == 4
    assert "a loss or gradient is not finite at iteration" in done.stderr
    assert re.search(r"its batch:\n +(\w+ \d+, ){3}\w+ \d+\n", done.stderr)
    assert "engine.skip_at_most (3)" in done.stderr
    assert "the last intact checkpoint: none yet" in done.stderr
    assert not (project.path / "runs/skipping/checkpoints").exists(), "the weights are spoilt"


@pytest.mark.task("speech")
def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again(
    project: Project, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "intact"
    shutil.copytree(finished, run)
    for file in run.glob("checkpoints/*/weights.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    lines = (run / "metrics.jsonl").read_text()
    more = "training.iter_num=8 training/optim/scheduler=constant"
    for mode in ("train", "check"):
        command = f"python train.py mode={mode} {SMALL} {more} runs_dir={tmp_path} name=intact"
        done = project.run(command, status=2)
        assert "none of its checkpoints is intact" in done.stderr
        assert "recorded checksum" in done.stderr
        assert "resume=force" in done.stderr
    assert (run / "metrics.jsonl").read_text() == lines
    done = project.run(f"python train.py mode=evaluate checkpoint={run}", status=2)
    assert "no intact checkpoint in it" in done.stderr
    assert "recorded checksum" in done.stderr


@pytest.mark.task("blank")
def test_a_worker_that_dies_is_told_as_such(project: Project) -> None:
    process = start(project, f"{LONG} name=workers training.num_workers=1", "iteration 3/")
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    for worker in found.stdout.split():
        os.kill(int(worker), signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == 2
    assert "a data worker died" in said
    assert "num_workers" in said
    assert "Traceback" not in said


@pytest.mark.task("speech")
def test_minutes_are_a_cadence_too(project: Project) -> None:
    often = "training.checkpoint.every=100000 training.checkpoint.every_minutes=0.002"
    process = start(project, f"{LONG} name=minutes {often}", "iteration 60/")
    process.kill()
    process.wait()
    assert list((project.path / "runs/minutes/checkpoints").glob("[!.]*"))


@pytest.mark.task("speech")
def test_a_record_says_what_a_run_is_made_of(project: Project, render: Render) -> None:
    path = render(project_name="Recorded")
    git = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, *command], cwd=path, check=True)
    model = path / "conf" / "model" / "dryrun.yaml"
    model.write_text(model.read_text() + "  dropout: 0.2\n")
    recorded = Project(path)
    recorded.run(f"python train.py {SMALL} training.lr=3e-4 name=first")
    run = path / "runs" / "first"
    about = json.loads((run / "record.json").read_text())
    assert about["state"] == "finished"
    assert about["command"] == f"python train.py {SMALL} training.lr=3e-4 name=first"
    assert about["overrides"] == [*SMALL.split(), "training.optim.lr=3e-4", "name=first"]
    assert about["seeds"] == {"training.run.seed": 42, project.task.seed: 1}
    assert about["packages"]["torch"]
    assert about["hardware"]["cores"] == os.cpu_count()
    assert about["git"]["uncommitted"] == [" M conf/model/dryrun.yaml"]


def test_load_gives_a_trained_model(project: Project, dryrun: str) -> None:
    code = (
        "from my_project.engine.load import load\n"
        "from my_project.project import PROJECT\n"
        f"model, cfg = load(PROJECT, 'runs/{dryrun}')\n"
        f"print(type(model).__name__, model.training, cfg.{project.task.width})\n"
    )
    done = project.run(f'python -c "{code}"')
    assert done.stdout == f"{project.task.network} False {project.task.widths[0]}\n"
    assert not done.stderr


def checked(project: Project, arguments: str, status: int = 0) -> Finished:
    runs = project.path / "runs"
    before = sorted(runs.iterdir()) if runs.exists() else []
    done = project.run(f"python train.py mode=check {arguments}", status=status)
    assert (sorted(runs.iterdir()) if runs.exists() else []) == before, "check only reads"
    return done


def test_check_looks_at_everything(project: Project, dryrun: str) -> None:
    done = checked(project, "model=tiny training=fastrun")
    for what in ("config", "code", "files", "machine", "data", "run"):
        assert re.search(rf"^(ok|warning) +{what} ", done.stdout, re.MULTILINE)
    done = checked(project, f"{SMALL} name={dryrun}")
    assert "resumes from iteration-000000004" in done.stdout


def test_check_tells_every_problem_in_one_report(project: Project, dryrun: str) -> None:
    bad = (
        f"{SMALL} data={project.task.own} training.devices=99 tracker=wandb "
        f"training.objective.metric=bleu checkpoint=runs/nowhere init=runs/{dryrun} model=tiny"
    )
    told = checked(project, bad, status=2).stderr
    for words in (
        "data.train = data/train",
        "training.run.devices = 99",
        "tracker = wandb",
        "training.objective.metric = bleu",
        "checkpoint = runs/nowhere",
        f"init = runs/{dryrun}: the weights",
    ):
        assert words in told


@pytest.mark.task("speech")
def test_a_sweep_that_is_stopped_resumes(project: Project) -> None:
    grid = f"--multirun {SMALL} training.iter_num=200 training.lr=1e-4,3e-4 name=grid"
    process = start(project, grid, "2 jobs, 1 at once")
    runs = project.path / "runs" / "grid"

    def outputs() -> str:
        return "".join(file.read_text() for file in sorted(runs.glob("*/output.log")))

    while "iteration 5/" not in outputs():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 143
    assert f"resume with: python train.py {grid}" in said
    done = project.run(f"python train.py {grid}")
    assert done.stdout.count(": finished") == 2
    assert outputs().count("continues after iteration") == 1
    assert outputs().count("iteration 200: best") == 2
