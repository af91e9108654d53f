"""The commands of the README in a rendered project, spelled as there, and wrong ones."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from .commands import Project, launch, record, signal_group, weights

SMALL = "model=dryrun training=dryrun"


def started(project: Project, command: str, until: str) -> str:
    """Start a long run, wait until it prints what is expected, and stop it."""
    process = launch(project, command.removeprefix("python train.py"))
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(until, line):
            break
    signal_group(process)
    process.wait()
    text = "".join(lines)
    assert re.search(until, text), text
    return text


@pytest.mark.slow
@pytest.mark.task("speech")
def test_a_standard_run_says_how_long_it_takes_and_suggests_a_smaller_one(
    project: Project,
) -> None:
    text = started(project, "python train.py", "long for a CPU|iteration 50/")
    assert re.search(project.task.parameters + " parameters", text)
    left = re.search(r"about ([\d.]+) (\w+) for \d+ iterations", text)
    assert left
    takes_days = left[2] == "days" or (left[2] == "h" and float(left[1]) > 24)
    assert ("model=tiny training=fastrun" in text) == takes_days


@pytest.mark.task("speech")
@pytest.mark.parametrize("command", ["training.optim.lr=3e-4", "training.lr=3e-4"])
def test_a_standard_run_takes_the_real_name_and_the_alias(project: Project, command: str) -> None:
    text = started(project, f"python train.py {command}", " parameters on ")
    name = re.match(r"name=(.+)\n", text)
    assert name
    config = yaml.safe_load((project.path / "runs" / name[1] / "config.yaml").read_text())
    assert config["training"]["optim"]["lr"] == 3e-4


@pytest.mark.slow
@pytest.mark.task("vision")
def test_fullrun_compiles_and_trains(project: Project) -> None:
    shorter = "training.iter_num=4 training.warmup_steps=1 training.run.log_every=1"
    command = f"python train.py training=fullrun model=dryrun {shorter} training.eval_batches=1"
    done = project.run(command)
    assert "bf16" in done.stdout
    rates = [float(r) for r in re.findall(r"iterations_per_second ([\d.]+)", done.stdout)]
    assert rates[-1] > 20 * rates[0], "audio of another length must not be compiled anew"


def test_modes_need_only_the_runs_directory(project: Project, dryrun: str) -> None:
    sums = project.path / "runs" / dryrun
    done = project.run(f"python train.py mode=evaluate checkpoint=runs/{dryrun}")
    assert "with model=dryrun, as the run recorded" in done.stdout
    measured = rf"test split, \d+ items: loss [\d.]+ · {project.task.metric} [\d.]+"
    assert re.search(measured, done.stdout)
    metrics = sums / "evaluate" / project.name(done) / "metrics.json"
    assert json.loads(metrics.read_text())["split"] == "test"

    newest = sorted((sums / "checkpoints").iterdir())[0].relative_to(project.path)
    done = project.run(
        f"python train.py mode=evaluate checkpoint={newest} name=printed format=json"
    )
    printed = json.loads(done.stdout)
    assert printed == json.loads((sums / "evaluate" / "printed" / "metrics.json").read_text())
    assert printed["checkpoint"] == str(newest)


@pytest.mark.task("speech")
def test_a_checkpoint_outside_a_run_needs_the_model_spelled(
    project: Project, dryrun: str, tmp_path: Path
) -> None:
    checkpoint = next((project.path / "runs" / dryrun / "checkpoints").iterdir())
    outside = tmp_path / "kept"
    subprocess.run(["cp", "-r", str(checkpoint), str(outside)], check=True)
    done = project.run(f"python train.py mode=evaluate checkpoint={outside}", status=2)
    assert "do not fit this model" in done.stderr
    project.run(f"python train.py mode=evaluate checkpoint={outside} {SMALL}")


@pytest.mark.task("speech")
def test_what_differs_from_the_run_is_printed(project: Project, dryrun: str) -> None:
    command = f"python train.py mode=evaluate checkpoint=runs/{dryrun}"
    done = project.run(f"{command} {project.task.smaller}")
    for key, value in project.task.small.items():
        assert re.search(rf"unlike the run: .*{key}: then \d+, now {value}\b", done.stdout)
    found = re.search(r"test split, (\d+) items", done.stdout)
    assert found
    assert int(found[1]) < project.task.tested


@pytest.mark.task("speech")
def test_a_sweep_of_three(project: Project) -> None:
    rates = "training.optim.lr=1e-4,3e-4,1e-3"
    project.run(f"python train.py --multirun {SMALL} {rates} name=three")
    jobs = {path.parent for path in (project.path / "runs" / "three").glob("*/metrics.jsonl")}
    assert {job.name.rpartition("lr=")[2] for job in jobs} == {"0.0001", "0.0003", "0.001"}
    seen = {
        yaml.safe_load((j / "config.yaml").read_text())["training"]["optim"]["lr"] for j in jobs
    }
    assert seen == {1e-4, 3e-4, 1e-3}
    # by alias, in another order and with one more: the old jobs are found, none is trained twice
    more = "training.lr=1e-3,0.0001,3e-4,5e-4"
    done = project.run(f"python train.py --multirun {SMALL} {more} name=three")
    assert done.stdout.count("finished before: ") == 3
    again = {path.parent for path in (project.path / "runs" / "three").glob("*/metrics.jsonl")}
    assert len(again) == 4
    job = next(iter(jobs)).relative_to(project.path)
    project.run(f"""python train.py mode=evaluate 'checkpoint="{job}"'""")
    done = project.run("python train.py mode=evaluate checkpoint=runs/three", status=2)
    assert f"""'checkpoint="{job}"'""" in done.stderr


def test_accumulation_learns_the_same(project: Project) -> None:
    losses = []
    for micro_batches in (1, 2):
        name = f"accumulate{micro_batches}"
        project.run(f"python train.py {SMALL} name={name} training.run.accumulate={micro_batches}")
        lines = (project.path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.task("speech")
def test_patience_stops_a_run(project: Project) -> None:
    patient = "training.iter_num=200 training.run.patience=2 training.lr=1e-12"
    done = project.run(f"python train.py {SMALL} {patient} name=patient")
    assert "stopped early" in done.stdout
    last = json.loads((project.path / "runs/patient/metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] < 200
    again = project.run(f"python train.py {SMALL} {patient} name=patient")
    assert "stopped early" in again.stdout


@pytest.mark.task("blank")
def test_max_minutes_ends_a_run_at_its_training_time(project: Project) -> None:
    command = f"{SMALL} training/optim/scheduler=constant training.run.eval_every=1000000"
    command += " training.run.log_every=50 training.checkpoint.every=30 training.num_workers=0"
    timed = f"python train.py {command} training.iter_num=1000000 name=timed"
    run = project.path / "runs/timed"
    seconds = []
    for minutes in (0.005, 0.01):  # the second one resumes: time counts over all starts
        done = project.run(f"{timed} training.run.max_minutes={minutes}")
        assert "stopped early by training.run.max_minutes: best" in done.stdout
        about = json.loads((sorted(run.glob("checkpoints/*"))[-1] / "checkpoint.json").read_text())
        progress = about["progress"]
        assert progress["last_eval"] == progress["iteration"] > 0
        assert record(run)["state"] == "finished"
        assert record(run)["ended_by"] == "max_minutes"
        seconds.append(progress["seconds"])
    assert 0.3 <= seconds[0] < 0.6 <= seconds[1] < 2
    done = project.run(f"{timed} training.run.max_minutes=0.01")
    assert "nothing to train" in done.stdout
    # its weights are those of a run without the limit
    project.run(f"python train.py {command} training.iter_num={progress['iteration']} name=whole")
    assert weights(run) == weights(project.path / "runs/whole")
    # two processes agree on the last iteration
    two = f"python train.py {command} training.iter_num=1000000 name=timed-two training.devices=2"
    done = project.run(f"{two} training.run.max_minutes=0.01")
    assert "stopped early by training.run.max_minutes: best" in done.stdout


@pytest.mark.task("blank")
def test_check_prints_json(project: Project) -> None:
    done = project.run(f"python train.py mode=check format=json {SMALL}")
    checks = json.loads(done.stdout)
    assert [it["check"] for it in checks] == ["config", "code", "files", "machine", "data", "run"]
    for it in checks:
        assert set(it) == {"check", "state", "details", "warnings", "problems"}
        assert it["state"] == ("warning" if it["warnings"] else "ok")
    # errors of the config and of files are in it too, and on standard error
    for wrong, check in (("training.run.seed=-1", "config"), ("init=nowhere", "files")):
        done = project.run(f"python train.py mode=check format=json {SMALL} {wrong}", status=2)
        (failed,) = [it for it in json.loads(done.stdout) if it["state"] == "failed"]
        assert failed["check"] == check
        assert len(failed["problems"]) == 1
        assert failed["problems"][0].splitlines()[0] in done.stderr


@pytest.mark.task("speech")
def test_init_starts_from_another_runs_weights(project: Project, dryrun: str) -> None:
    new = "training.lr=1e-12 training.weight_decay=0"
    project.run(f"python train.py {SMALL} init=runs/{dryrun} {new} name=tuned")
    losses = {}
    for name in (dryrun, "tuned"):
        done = project.run(f"python train.py mode=evaluate checkpoint=runs/{name}")
        found = re.search(r"loss ([\d.]+)", done.stdout)
        assert found
        losses[name] = found[1]
    assert losses[dryrun] == losses["tuned"]
    done = project.run(f"python train.py {SMALL} init=runs/nowhere", status=2)
    assert "init = runs/nowhere" in done.stderr


@pytest.mark.task("speech")
def test_a_loss_that_is_not_finite_stops_the_run(project: Project) -> None:
    done = project.run(
        f"python train.py {SMALL} training.lr=1e30 training.run.grad_clip=null", status=2
    )
    assert "training.run.grad_clip" in done.stderr  # grad_clip is in optim: a wrong key first
    wild = "training.lr=1e30 training.optim.grad_clip=null training.warmup_steps=0"
    done = project.run(f"python train.py {SMALL} {wild} name=wild", status=2)
    assert "a loss or gradient is not finite at iteration" in done.stderr


@pytest.mark.task("speech")
def test_the_same_command_twice_has_two_directories(project: Project) -> None:
    names = {project.name(project.run(f"python train.py {SMALL}")) for _ in range(2)}
    assert len(names) == 2
    assert project.name(project.run(f"python train.py {SMALL}", RUN_NAME="job-17")) == "job-17"


@pytest.mark.task("speech")
def test_tensorboard_gets_the_config_and_the_curves(project: Project) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    project.run(f"python train.py {SMALL} tracker=tensorboard name=boarded")
    events = EventAccumulator(str(project.path / "runs" / "boarded"))
    events.Reload()
    assert {"train/loss", "train/lr", f"valid/{project.task.metric}"} <= set(
        events.Tags()["scalars"]
    )
    (text,) = events.Tensors("config/text_summary")
    assert b'"training.optim.lr": 0.0001' in text.tensor_proto.string_val[0]


@pytest.mark.task("speech")
def test_the_config_is_not_taken_from_a_checkpoint(project: Project) -> None:
    """resume=force continues with today's values, the optimizer's own among them."""
    project.run(f"python train.py {SMALL} name=forced")
    more = "training.iter_num=5 training.optim.weight_decay=0.5 training.optim.betas=[0.5,0.6]"
    refused = project.run(f"python train.py {SMALL} name=forced {more}", status=2)
    assert "training.optim.weight_decay: then 0.01, now 0.5" in refused.stderr
    assert (project.path / "runs/forced/overrides.yaml").read_text().count("0.5") == 0
    done = project.run(f"python train.py {SMALL} name=forced {more} resume=force")
    assert "continues after iteration 4 of 5" in done.stdout
    config = yaml.safe_load((project.path / "runs/forced/config.yaml").read_text())
    assert config["training"]["optim"]["weight_decay"] == 0.5


@pytest.mark.task("speech")
def test_a_refused_command_leaves_the_run_as_it_was(project: Project) -> None:
    project.run(f"python train.py {SMALL} name=kept")
    done = project.run("python train.py model=tiny training=dryrun name=kept resume=force", 2)
    assert "do not fit this model" in done.stderr
    done = project.run(f"python train.py {SMALL} name=kept")
    assert "complete at iteration 4 of 4" in done.stdout
    project.run("python train.py mode=evaluate checkpoint=runs/kept")


@pytest.mark.task("speech")
def test_another_objective_starts_a_new_best(project: Project) -> None:
    project.run(f"python train.py {SMALL} name=judged")
    loss = "training.objective.metric=loss"
    other = f"{loss} training.iter_num=6 resume=force"
    done = project.run(f"python train.py {SMALL} name=judged {other}")
    best = done.stdout.rpartition("best loss ")[2].split()[0]
    assert float(best) > 1.5, "the other metric was about 1, or less"
    done = project.run("python train.py mode=evaluate checkpoint=runs/judged")
    (metrics,) = (project.path / "runs/judged").glob("evaluate/*/metrics.json")
    assert json.loads(metrics.read_text())["checkpoint"].endswith("iteration-000000006")


@pytest.mark.task("speech")
def test_another_optimizer_starts_afresh(project: Project) -> None:
    project.run(f"python train.py {SMALL} name=swapped training/optim=sgd")
    more = "training.iter_num=6 resume=force"
    assert "of 6" in project.run(f"python train.py {SMALL} name=swapped {more}").stdout


@pytest.mark.task("speech")
@pytest.mark.parametrize("name", ["20261123", "1e5", "null_", "a b <x>"])
def test_any_name_is_a_directory(project: Project, name: str) -> None:
    done = project.run(f"""python train.py {SMALL} 'name="{name}"'""")
    assert (project.path / "runs" / project.name(done) / "metrics.jsonl").is_file()
    done = project.run(f"python train.py {SMALL} name=20261124")
    assert (project.path / "runs" / "20261124" / "metrics.jsonl").is_file()


BAD = {
    "an unknown key": ("training.optim.lrr=1", ["did you mean training.optim.lr?"]),
    "a key in the wrong section": ("training.run.lr=1", ["training.run.lr", "training.optim.lr"]),
    "out of range": ("training.lr=-1", ["training.optim.lr = -1", "greater than 0"]),
    "a seed that torch cannot take": (f"training.seed={2**63}", ["training.run.seed", "less than"]),
    "a checkpoint to train from": ("checkpoint=runs/a", ["init=runs/a starts from its weights"]),
    "an unknown option": ("training=slowrun", ["slowrun", "fastrun"]),
    "fields that disagree": (
        "training.iter_num=100",
        ["warmup_steps", "conf/training/optim/scheduler/cosine"],
    ),
    "alias and key": ("training.lr=1 training.optim.lr=2", ["both set training.optim.lr"]),
    "a missing checkpoint": ("mode=evaluate checkpoint=runs/no", ["runs/no: no such file"]),
    "no checkpoint": ("mode=evaluate", ["checkpoint = null", "runs/NAME"]),
    "a folder that is no run": ("mode=evaluate checkpoint=conf", ["no checkpoint in it"]),
    "a comma": ("mode=evaluate checkpoint=a,b", ["one checkpoint at a time"]),
    "a credential": ("+tracker.api_key=s3cr3t", ["tracker.api_key", "environment"]),
    "a nested credential": ("'+tracker={token: s3cr3t}'", ["token", "environment"]),
    "parentheses": ("'input=a (1).wav'", ["""'input="a (1).wav"'"""]),
    "an equals sign": ("checkpoint=runs/x/lr=1", ["""'checkpoint="runs/x/lr=1"'"""]),
    "an accent": ("input=ü.wav", ["""'input="ü.wav"'"""]),
    "accents in a list": ("'input=[ü.wav,a b.wav]'", ["only in quotes"]),
    "infinity": ("training.lr=inf", ["training.optim.lr = inf", "finite"]),
    "an unwritable folder": ("runs_dir=/proc/none", ["runs_dir = /proc/none", "cannot write"]),
    "a file for a folder": ("runs_dir=train.py", ["runs_dir = train.py", "cannot write"]),
    "no such mode": ("mode=trian", ["mode = trian: expected one of train, "]),
    "no such device": ("training.run.device=cuda", ["training.run.device = cuda", "auto"]),
    "too many devices": ("training.devices=99", ["training.run.devices = 99", "expected at most"]),
    "no devices": ("training.devices=0", ["training.run.devices = 0: expected a number", "auto"]),
    "an uneven batch": ("training.run.accumulate=3", ["loader.batch_size = 16", "multiple"]),
    "an interpolation": ("'training.lr=${training.nix}'", ["training.nix"]),
    "a slash in the name": ("name=a/b", ["name = a/b", "slash"]),
    "no value": ("training.lr", ["KEY=VALUE"]),
    "no key": ("=1", ["=1: expected KEY=VALUE"]),
    "no option": ("model=null", ["model=null: no such option", "base, dryrun, tiny"]),
    "another config": ("--config-name other", ["conf/ alone", "experiment=NAME"]),
    "a config to run again": ("--experimental-rerun runs/x", ["conf/ alone"]),
    "--resolve alone": ("--resolve", ["--cfg job --resolve"]),
    "a section in a sweep": (
        "--multirun ++engine.profiler=5 training.lr=1e-3,1e-4",
        ["engine.profiler = 5", "from the command line: ++engine.profiler=5"],
    ),
    "a sweep without its flag": ("training.lr=1e-3,1e-4", ["--multirun"]),
    "a bad job in a sweep": ("--multirun training.lr=1e-3,-1", ["training.optim.lr = -1"]),
}


def test_bad_input_of_the_tasks_own(project: Project) -> None:
    task = project.task
    for arguments, told in (
        (f"{task.count}=two", [f"{task.count} = two", "integer"]),
        ("training.objective.metric=bleu", ["bleu", f"loss, {task.metric}"]),
        (f"data={task.own}", ["data.train = data/train", f"data={task.own} data.train=F"]),
    ):
        said = project.run(f"python train.py {arguments}", status=2).stderr
        assert all(words in said for words in told), said


@pytest.mark.task("speech")
@pytest.mark.parametrize(("arguments", "told"), BAD.values(), ids=BAD.keys())
def test_bad_input(project: Project, arguments: str, told: list[str]) -> None:
    runs = project.path / "runs"
    before = sorted(runs.rglob("*")) if runs.exists() else []
    done = project.run(f"python train.py {arguments}", status=2)
    for words in told:
        assert words in done.stderr
    assert "s3cr3t" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) <= 12
    assert (sorted(runs.rglob("*")) if runs.exists() else []) == before, "nothing half-written"


FILES = {
    "an alias in an experiment": (
        "experiment/x.yaml",
        "# @package _global_\ntraining:\n  lr: 1e-3\n",
        "conf/experiment/x.yaml:3: training.lr is an alias; in YAML set training.optim.lr",
    ),
    "an alias in a preset": (
        "training/x.yaml",
        "defaults: [default]\nlr: 1e-3\n",
        "conf/training/x.yaml:2: training.lr is an alias; in YAML set training.optim.lr",
    ),
    "an alias in a search space": (
        "sweep/x.yaml",
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      training.lr: 1,2\n",
        "conf/sweep/x.yaml:5: training.lr is an alias; search over training.optim.lr",
    ),
    "an alias read from the root": (
        "training/x.yaml",
        "defaults: [default]\nclip: ${optim.grad_clip}\n",
        "conf/training/x.yaml:2: training.clip: ${optim.grad_clip} is read from the root of the "
        "config; write ${.optim.grad_clip}",
    ),
    "an unknown key": (
        "training/x.yaml",
        "defaults: [default]\noptim:\n  learning: 3\n",
        "from conf/training/x.yaml:3",
    ),
    "a missing key": (
        "training/x.yaml",
        "run:\n  seed: 3\n",
        "extend a file that has them, or add\n      run:\n        iter_num: …",
    ),
    "broken YAML": ("training/x.yaml", "run:\n  seed: 3\n lr: 2\n", "conf/training/x.yaml:3:2"),
    "a credential": (
        "tracker/x.yaml",
        "defaults: [none]\npassword: s3cr3t\n",
        "tracker.password: a credential",
    ),
}


@pytest.mark.task("speech")
@pytest.mark.parametrize(("file", "text", "told"), FILES.values(), ids=FILES.keys())
def test_bad_files(project: Project, file: str, text: str, told: str) -> None:
    path = project.path / "conf" / file
    existed = path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        option = file.removesuffix(".yaml").replace("/", "=")
        done = project.run(f"python train.py {option}", status=2)
    finally:
        path.unlink()
        if not existed:
            path.parent.rmdir()
    assert told in done.stderr
    assert "s3cr3t" not in done.stderr


def test_help_teaches_the_project(project: Project) -> None:
    page = project.run("python train.py --help").stdout
    for words in (
        "mode=evaluate checkpoint=runs/NAME",
        "model                     base, dryrun, ",  # and others
        "training                  default, dryrun, fastrun, fullrun",
        "--multirun",
    ):
        assert words in page
    assert "mode=explain" in page
    assert re.search("training.lr +training.optim.lr", page)


@pytest.mark.task("speech")
def test_the_config_is_shown_as_hydra_would(project: Project) -> None:
    shown = project.run("python train.py --cfg job training.lr=3e-4 name=x").stdout
    by_hydra = project.run("python train.py --cfg job -p _global_ training.lr=3e-4 name=x").stdout
    assert shown == by_hydra
    assert "lr: 0.0003" in shown
    told = project.run("python train.py --cfg job training.optim.lrr=1", status=2).stderr
    assert "did you mean training.optim.lr?" in told


@pytest.mark.task("speech")
def test_commands_that_show_or_are_refused_do_not_import_torch(project: Project) -> None:
    missing = "data=manifest data.train=nothing.jsonl"
    for command in ("--help", "--cfg job", "training.lr=-1", missing):
        watched = subprocess.run(
            [project.python, "-X", "importtime", "train.py", *command.split()],
            cwd=project.path,
            capture_output=True,
            text=True,
        )
        assert " hydra" in watched.stderr
        assert not re.search(r"\| +torch\b", watched.stderr), command
        # the config as it is shown needs no types
        assert bool(re.search(r"\| +pydantic\b", watched.stderr)) == (command != "--cfg job")
