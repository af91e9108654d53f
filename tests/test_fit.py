"""mode=check fit=true: what a run will need, measured beforehand; gradient checkpointing."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .commands import SMALL, Project, children, copy_project, start, wait_for

FIT = "python train.py mode=check fit=true"
QUICK = "engine.fit.seconds=0.2 engine.fit.tries=0"


def rows(project: Project, command: str, status: int = 0) -> dict[str, Any]:
    """The rows of mode=check by their names."""
    done = project.run(f"{command} format=json", status)
    return {row["check"]: row for row in json.loads(done.stdout)}


def weights(run: Path) -> bytes:
    return (sorted(run.glob("checkpoints/*"))[-1] / "weights.safetensors").read_bytes()


@pytest.mark.task("vision", "text")
def test_gradient_checkpointing_gives_the_same_weights(project: Project) -> None:
    """With dropout, whose random numbers are drawn again."""
    dropping = f"{SMALL} {project.task.dropout}=0.2 training.run.accumulate=2"
    project.run(f"python train.py {dropping} name=kept-activations")
    project.run(f"python train.py {dropping} training.gradient_checkpointing=true name=recomputed")
    runs = project.path / "runs"
    assert weights(runs / "kept-activations") == weights(runs / "recomputed")


COPIED = """
import copy
from types import SimpleNamespace

import torch
from torch import nn
from my_project.engine.train.recompute import recompute_blocks

run = SimpleNamespace(gradient_checkpointing=True)
model = nn.ModuleList([nn.Linear(1, 1)])
recompute_blocks(model, SimpleNamespace(training=SimpleNamespace(run=run)))
copied = copy.deepcopy(model)
nn.init.zeros_(copied[0].weight)
nn.init.zeros_(copied[0].bias)
assert copied[0](torch.ones(1, 1)) == 0
"""


@pytest.mark.task("vision")
def test_a_copy_of_a_model_computes_with_its_own_weights(project: Project) -> None:
    subprocess.run([project.python, "-c", COPIED], cwd=project.path, check=True)


@pytest.mark.task("blank")
def test_what_cannot_be_measured_is_refused(project: Project) -> None:
    refused = project.run("python train.py fit=true", status=2).stderr
    assert "fit = true: expected false: mode=check alone measures" in refused
    given = f"{SMALL} training.gradient_checkpointing=true"
    for mode in ("", "mode=check"):
        refused = project.run(f"python train.py {given} {mode} name=none", status=2).stderr
        assert "training.run.gradient_checkpointing = true: this model has no blocks" in refused
        assert "nn.ModuleList" in refused
    swept = project.run(f"{FIT} --multirun training.seed=1,2 {SMALL}", status=2).stderr
    assert "it measures one config; leave out --multirun" in swept
    missing = rows(project, f"{FIT} {SMALL} data=table data.train=none.csv", status=2)
    warning, _ = missing["model"]["warnings"]
    assert warning == "not measured: fix the problems above first"
    assert not (project.path / "runs" / "none" / "checkpoints").exists()


@pytest.mark.task("blank")
def test_a_gpu_that_is_missing_leaves_the_sizes(project: Project) -> None:
    found = rows(project, f"{FIT} {SMALL} training.run.device=cuda", status=2)
    assert "sees no such device" in found["machine"]["problems"][0]
    figures = found["model"]["figures"]
    assert figures["parameters"] > 100
    assert figures["optimizer_bytes"] == 2 * figures["gradient_bytes"]
    assert "not measured" in found["model"]["warnings"][0]
    state = 3 * figures["gradient_bytes"] + figures["weight_bytes"]
    assert state < found["memory"]["figures"]["estimated_peak_bytes"] < state + 1e6
    (estimated,) = found["memory"]["warnings"]
    assert estimated.startswith("estimated peak ")


@pytest.mark.task("text")
def test_shards_are_estimated_without_their_gpus(project: Project) -> None:
    """One item for each device, of few tokens: nearly all is weights, gradients and moments."""
    given = f"{FIT} training=dryrun model.context=16 training.run.device=cuda"
    whole = 0.0
    for devices in (1, 2, 8):
        sharded = "fsdp" if devices > 1 else "ddp"
        shared = f"training.batch_size={devices} training.devices={devices}"
        found = rows(project, f"{given} {shared} training.parallel={sharded}", status=2)
        peak = found["memory"]["figures"]["estimated_peak_bytes"]
        whole = whole or peak
        # beside the shard, a block or the embedding is gathered
        assert whole / devices <= peak < whole / devices + whole / 3


@pytest.mark.task("vision")
def test_the_largest_batch_is_estimated_for_a_gpu_that_is_missing(project: Project) -> None:
    given = f"{FIT} model=small training=dryrun training.run.device=cuda training.precision=bf16"
    given += " training.gradient_checkpointing=true"
    found = rows(project, f"{given} engine.fit.memory_gb=0.45", status=2)["memory"]
    largest = found["figures"]["largest_batch_size"]
    assert found["warnings"][1].endswith(f"within engine.fit.memory_gb = 0.45: about {largest}")
    again = rows(project, f"{given} training.batch_size={largest}", status=2)["memory"]
    assert again["figures"]["estimated_peak_bytes"] == pytest.approx(0.45e9, rel=0.05)


@pytest.mark.task("blank")
def test_a_loss_that_needs_values_leaves_the_sizes(own: Project) -> None:
    edit(own, "return losses.sum(), len(losses)", "return losses.sum(), float(losses.sum().item())")
    found = rows(own, f"{FIT} {SMALL} training.run.device=cuda", status=2)
    (reason,) = found["memory"]["warnings"]
    assert reason.startswith("the peak was not estimated: ")
    assert "DataDependent" in reason
    assert found["model"]["figures"]["parameters"] > 100


@pytest.mark.task("vision")
def test_a_model_is_measured(project: Project) -> None:
    before = set(project.path.glob("runs/*"))
    found = rows(project, f"{FIT} {SMALL} {QUICK}")
    assert set(project.path.glob("runs/*")) == before
    assert {row["state"] for name, row in found.items() if name != "code"} == {"ok"}
    memory, model = found["memory"]["figures"], found["model"]["figures"]
    assert 0.1e9 < memory["peak_bytes"] < memory["free_bytes"]
    assert model["loss"] == pytest.approx(model["chance_loss"], rel=0.3)
    assert model["optimizer_bytes"] == pytest.approx(2 * model["gradient_bytes"], rel=0.1)
    assert found["time"]["figures"]["evaluations"] == 2
    assert found["time"]["figures"]["disk_bytes"] > 3 * model["weight_bytes"]
    (saving,) = found["recompute"]["details"]
    assert saving.startswith("training.gradient_checkpointing would save ")
    assert 0 <= found["loading"]["figures"]["data_wait"] < 1


@pytest.fixture
def own(project: Project, tmp_path: Path) -> Project:
    return Project(copy_project(project.path, tmp_path / "own"), task=project.task)


def edit(project: Project, before: str, after: str) -> None:
    file = project.path / "my_project" / "model.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


OWN_SESSION = """

class OwnSession(Session):
    def __init__(self, *how):
        super().__init__(*how)
        self.iterations = 0

    def begin_iteration(self):
        self.iterations += 1
        return super().begin_iteration()
"""


@pytest.mark.task("blank")
def test_a_trial_runs_as_its_run_would(own: Project) -> None:
    """With a session of the project's own; an empty runs_dir stays."""
    file = own.path / "my_project" / "training.py"
    text = file.read_text().replace("session = Session(", "session = OwnSession(")
    file.write_text(text + OWN_SESSION)
    runs = own.path / "Läufe"
    runs.mkdir()
    short = "training.run.max_minutes=0.01 training.iter_num=1000000"
    found = rows(own, f"{FIT} {SMALL} {QUICK} {short} 'runs_dir=\"{runs}\"'")
    assert not list(runs.iterdir())
    time = found["time"]["figures"]
    assert 0 < time["iterations_left"] == time["last_iteration"] < 1000000
    assert "training.run.max_minutes = 0.01 ends the run at" in found["time"]["details"][1]
    assert "largest_batch_size" not in found["memory"]["figures"]
    assert len(found["memory"]["details"]) == 1


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.task("blank")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_check_that_is_ended_leaves_no_trial(own: Project, number: int) -> None:
    check = start(own, f"mode=check fit=true {SMALL} engine.fit.seconds=60", "^measure ")
    wait_for(lambda: list(own.path.glob("runs/.fit-*/trial/trial.json")))
    (trial,) = children(check.pid)
    check.send_signal(number)
    check.communicate()
    wait_for(lambda: not is_running(trial))
    if number == signal.SIGTERM:
        assert check.returncode == 128 + number
        assert not list(own.path.glob("runs/.fit-*"))


@pytest.mark.task("blank")
def test_a_runs_dir_that_cannot_be_written_fails_the_check(project: Project) -> None:
    for fit in ("true", "false"):
        done = project.run(
            f"python train.py mode=check {SMALL} fit={fit} {QUICK} runs_dir=train.py/runs", 2
        )
        assert "runs_dir = train.py/runs: cannot write in train.py" in done.stderr


@pytest.mark.task("blank")
def test_measurements_stay_where_another_check_fails(own: Project) -> None:
    own.run(f"python train.py {SMALL} name=there")
    found = rows(own, f"{FIT} {SMALL} {QUICK} name=there training.seed=5", status=2)
    assert found["run"]["state"] == "failed"
    assert found["memory"]["figures"]["peak_bytes"] > 0.1e9
    assert found["time"]["figures"]["iterations_left"] == 0


@pytest.mark.task("blank")
def test_parameters_without_a_gradient_are_named(own: Project) -> None:
    edit(
        own,
        "        self.layers = nn.Sequential(",
        "        self.forgotten = nn.Linear(2, 2)\n        self.layers = nn.Sequential(",
    )
    model = rows(own, f"{FIT} {SMALL} {QUICK}")["model"]
    assert model["state"] == "warning"
    assert model["warnings"][0] == (
        "2 parameters have no gradient: forgotten.weight, forgotten.bias"
    )
    assert model["figures"]["without_gradient"] == ["forgotten.weight", "forgotten.bias"]


@pytest.mark.task("blank")
def test_what_is_not_finite_is_named(own: Project) -> None:
    edit(own, "torch.where(std > 0, std, 1)", "torch.zeros_like(std)")
    model = rows(own, f"{FIT} {SMALL} {QUICK}", status=2)["model"]
    assert "is not finite at iteration 1" in model["problems"][0]
    activations, gradients = model["warnings"]
    assert activations.startswith("activations not finite: features, layers.0, ")
    assert gradients.startswith("gradients not finite: layers.")


@pytest.mark.task("blank")
def test_a_model_that_is_too_large_is_refused_with_its_largest_part(project: Project) -> None:
    wide = "engine.fit.memory_gb=0.6 engine.fit.tries=2 training.batch_size=2 model.width=6000"
    memory = rows(project, f"{FIT} {SMALL} {wide}", status=2)["memory"]
    (problem,) = memory["problems"]
    stage = "(building the model|the first iteration)"
    assert re.match(f"training.loader.batch_size = 2: memory ran out during {stage};", problem)
    assert "batch_size = 1 does not fit either" in problem
    assert "the largest part of its weights: layers.3, 144 MB" in problem
    assert memory["figures"]["largest_batch_size"] == 0


@pytest.mark.task("blank")
def test_memory_that_the_libraries_alone_exceed_is_named(project: Project) -> None:
    memory = rows(project, f"{FIT} {SMALL} engine.fit.memory_gb=0.15", status=2)["memory"]
    (problem,) = memory["problems"]
    assert "memory ran out during start-up; 150 MB (engine.fit.memory_gb = 0.15)" in problem
    assert "the libraries alone need more, whatever the model and the batch" in problem
    assert "largest_batch_size" not in memory["figures"]


CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of this machine, for a process and its children."""
    folder = CGROUPS / f"fit-{os.getpid()}"
    with contextlib.suppress(OSError):
        folder.mkdir()
    if not (folder / "memory.limit_in_bytes").exists():
        pytest.skip("only root may limit memory, and only where cgroups are mounted")
    yield folder
    folder.rmdir()


@pytest.mark.long
@pytest.mark.task("vision")
def test_the_largest_batch_is_the_largest(project: Project, cgroup: Path) -> None:
    """Under a limit that the kernel enforces: the next one is killed, in a run of its own."""
    (cgroup / "memory.limit_in_bytes").write_text(str(1_000_000_000))

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        join = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
        command = ["sh", "-c", join, "sh", sys.executable, "train.py", *arguments]
        return subprocess.run(command, cwd=project.path, capture_output=True, text=True)

    model = ["model=tiny", "model.image.size=160", "training=dryrun", "training.run.accumulate=2"]
    first = ["training.batch_size=2", "engine.fit.seconds=0.2", "format=json"]
    done = run("mode=check", "fit=true", *model, *first)
    found = {row["check"]: row for row in json.loads(done.stdout)}
    largest = found["memory"]["figures"]["largest_batch_size"]
    assert largest > 2
    assert largest % 2 == 0
    for size, status in ((largest, 0), (largest + 2, -9)):
        finished = run(*model, f"training.batch_size={size}", f"name=of-{size}")
        assert finished.returncode == status, size


@pytest.mark.long
@pytest.mark.task("vision", "text")
def test_the_peak_is_that_of_the_run(project: Project) -> None:
    """Within 5 %; each is a process of its own, by the variable."""
    for model in ("dryrun", "tiny"):
        given = f"model={model} training=fastrun training.iter_num=60 training.warmup_steps=5"
        done = project.run(f"{FIT} {given} engine.fit.tries=0 format=json", PYTHONHASHSEED="1")
        found = {row["check"]: row for row in json.loads(done.stdout)}
        predicted = found["memory"]["figures"]["ranks"][0]["peak_bytes"] / 1e9
        done = project.run(f"python train.py {given} name=peak-{model}", PYTHONHASHSEED="1")
        used = re.search(r"; ([\d.]+) GB used", done.stdout)
        assert used
        assert predicted == pytest.approx(float(used[1]), rel=0.05)
