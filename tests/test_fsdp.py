"""training.parallel=fsdp: shards learn what one process does, and their checkpoints are whole."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from .commands import SMALL, Project, copy_project
from .kills import kill_and_compare

tied = pytest.mark.task("text")  # its embedding is tied to its head
uneven = pytest.mark.task("speech")  # its head has an odd number of rows

SHARDED = "training.devices=2 training.parallel=fsdp"
RECOMPUTED = "training.gradient_checkpointing=true"


def train(project: Project, name: str, more: str) -> Path:
    """A run of four iterations, or of iter_num."""
    steady = "training/optim/scheduler=constant training.lr=1e-2"
    project.run(f"python train.py {SMALL} {project.task.smaller} {steady} name={name} {more}")
    return project.path / "runs" / name


def parameters(run: Path) -> dict[str, Any]:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return dict(load_file(newest / "weights.safetensors"))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: Path, other: Path) -> None:
    """The same weights and metrics, up to rounding."""
    assert_same_weights(one, other)
    for first, second in zip(metrics(one), metrics(other), strict=True):
        for key in first.keys() & {"loss", "grad_norm", "bits_per_byte"}:
            assert first[key] == pytest.approx(second[key], rel=1e-4), key


def assert_same_weights(one: Path, other: Path) -> None:
    there = parameters(other)
    for key, value in parameters(one).items():
        assert value == pytest.approx(there.pop(key), rel=1e-3, abs=1e-5), key
    assert not there, "tied weights are written once"


VARIANTS = {
    # two processes measure three batches, one of them a batch more than the other
    "adamw": "training.ema=0.5 training.run.accumulate=2 data.items.valid=9 "
    "training.run.eval_batches=null",
    "muon": "training/optim=muon",
    "sgd": "training/optim=sgd training.finetune.frozen=[norms]",
    "compiled": "training.run.compile=true",
}


@tied
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "adamw" else pytest.mark.long)
        for name in VARIANTS
    ],
)
def test_shards_learn_what_one_process_does(project: Project, variant: str) -> None:
    one = train(project, f"one-{variant}", VARIANTS[variant])
    recomputed = RECOMPUTED if variant == "adamw" else ""
    two = train(project, f"shards-{variant}", f"{VARIANTS[variant]} {SHARDED} {recomputed}")
    assert_same(one, two)


@tied
@pytest.mark.long
def test_blocks_are_recomputed_in_each_process(project: Project) -> None:
    """With dropout, whose random numbers are drawn again."""
    dropping = f"{project.task.dropout}=0.2 training.devices=2"
    recomputing = f"{dropping} {RECOMPUTED}"
    kept = train(project, "ddp-kept", dropping)
    assert_same(kept, train(project, "ddp-recomputed", recomputing))
    assert_same(kept, train(project, "shards-recomputed", f"{recomputing} {SHARDED}"))


@tied
@pytest.mark.long
def test_a_run_in_shards_is_measured(project: Project) -> None:
    fit = "fit=true engine.fit.seconds=0.2 engine.fit.tries=0"
    done = project.run(f"python train.py mode=check {SMALL} {SHARDED} {fit} format=json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert {rows[name]["state"] for name in ("memory", "recompute", "model", "time")} == {"ok"}
    assert len(rows["memory"]["figures"]["ranks"]) == 2


@tied
@pytest.mark.slow
def test_a_run_in_shards_continues_in_one_process(project: Project) -> None:
    one = train(project, "moved-one", "training.ema=0.5 training.iter_num=4")
    for iterations, how in ((2, SHARDED), (4, "")):
        moved = train(project, "moved", f"training.ema=0.5 training.iter_num={iterations} {how}")
    assert_same(one, moved)
    log = (moved / "train.log").read_text()
    for line in ("parallel: then fsdp, now ddp", "processes: then 2, now 1"):
        assert f"{line}; the weights will not be bit-identical" in log
    project.run("python train.py mode=evaluate checkpoint=runs/moved")
    other = train(project, "from-moved", f"init=runs/moved training.lr=1e-30 {SHARDED}")
    assert_same_weights(moved, other)


@uneven
@pytest.mark.slow
def test_a_killed_run_in_shards_ends_with_the_same_weights(project: Project) -> None:
    shards = f"training.num_workers=1 training.ema=0.9 training.precision=fp16 {SHARDED}"
    variants = {"in shards": shards}
    for what, same in kill_and_compare(project, 1, 4, variants):
        assert same, what


REFUSED = {
    "one process": (
        "training.parallel=fsdp",
        [
            "training.parallel = fsdp: needs two or more processes, this run has one",
            "expected training.devices=2 or more, or training.parallel=ddp",
        ],
    ),
    "a misspelt value": (
        "training.parallel=fdsp",
        ["training.parallel = fdsp: expected", "'ddp'", "'fsdp'"],
    ),
}


@tied
@pytest.mark.parametrize("name", REFUSED)
def test_what_shards_cannot_do_is_refused(project: Project, name: str) -> None:
    given, expected = REFUSED[name]
    for mode in ("train", "check"):
        refused = project.run(f"python train.py mode={mode} {SMALL} {given}", status=2)
        for words in expected:
            assert words in refused.stderr, refused.stderr


@tied
def test_a_scalar_is_refused_before_processes_start(project: Project, tmp_path: Path) -> None:
    own = Project(copy_project(project.path, tmp_path / "own"), task=project.task)
    file = own.path / "my_project" / "model.py"
    file.write_text(f"""{file.read_text()}

built = build_model


def build_model(cfg: Config) -> nn.Module:
    model = built(cfg)
    model.scale = nn.Parameter(torch.tensor(1.0))
    return model
""")
    refused = own.run(f"python train.py mode=check {SMALL} {SHARDED}", status=2).stderr
    assert "training.parallel = fsdp: scale is a scalar; expected one dimension" in refused


# models in two processes: the shapes of their shards and the blocks, or why there are none
SHARD = """
import os
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.multiprocessing import start_processes
from my_project.engine.errors import UserError
from my_project.engine.train.fsdp import broadcast_buffers, shard

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 3) for _ in range(2))
        self.nested = nn.ModuleList([nn.ModuleList([nn.Linear(1, 5)])])
        self.named = nn.ModuleList([nn.ModuleDict({"a": nn.Identity()})])
        self.again = nn.ModuleList([nn.ReLU()] * 2)
        self.register_buffer("mean", torch.zeros(2, 2).t())
        self.register_buffer("table", torch.zeros(1).expand(3))

def run(rank, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    plain, scaled, tied, passed = (Model() for _ in range(4))
    scaled.scale = nn.Parameter(torch.tensor(1.0))
    tied.layers[1].weight = tied.layers[0].weight
    passed.part = passed.layers[0].part = nn.Linear(1, 1)
    devices = ["cpu", "meta"]
    whole = nn.Linear(2, 2)
    for model, device in (
        (plain, "cpu"),
        (plain, devices[rank]),
        (scaled, "cpu"),
        (tied, "cpu"),
        (passed, "cpu"),
        (whole, "cpu"),
    ):
        try:
            shard([model], torch.device(device))
            said = [tuple(it.to_local().shape) for it in model.parameters()]
        except UserError as error:
            said = error
        os.write(1, f"{rank} {said}\\n".encode())
    names = [name for name, it in plain.named_modules() if isinstance(it, FSDPModule)]
    plain.mean += torch.tensor([[1, 2], [3, 4]]) * (1 - rank)
    broadcast_buffers(plain)
    os.write(1, f"{rank} {' '.join(names)} {plain.mean.tolist()}\\n".encode())

if __name__ == "__main__":
    start_processes(run, (sys.argv[1],), nprocs=2, start_method="fork")
"""


@tied
def test_each_process_keeps_its_shards(project: Project, tmp_path: Path) -> None:
    script = project.path / "shards.py"
    script.write_text(SHARD)
    done = subprocess.run(
        [project.python, script.name, tmp_path / "store"],
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    script.unlink()
    assert done.returncode == 0, done.stderr
    warning = "no nn.ModuleList in the model: all weights are gathered at once"
    assert done.stderr.count(f"training.parallel = fsdp: {warning}") == 1
    assert f"0 {[(2, 8), (2,)] * 2 + [(3, 1), (3,)]}" in done.stdout
    assert f"1 {[(1, 8), (1,)] * 2 + [(2, 1), (2,)]}" in done.stdout
    found = "training.run.device: process 0 has cpu, process 1 has meta; expected the same"
    scalar = "training.parallel = fsdp: scale is a scalar; expected one dimension or more"
    shared = "training.parallel = fsdp: layers.1.weight is a parameter of two blocks"
    passed = "training.parallel = fsdp: part.weight is a parameter of two blocks"
    blocks = " layers.0 layers.1 nested.0.0 named.0.a again.0 [[1.0, 2.0], [3.0, 4.0]]"
    for rank in range(2):
        for words in (found, scalar, shared, passed, blocks):
            assert f"{rank} {words}" in done.stdout
