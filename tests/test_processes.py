"""Several processes and several nodes on one machine: they learn what one process would."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from .commands import LONG, SMALL, Project, children, launch, start, weights


def parameters(run: Path) -> dict[str, Any]:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    found = dict(load_file(newest / "weights.safetensors"))
    for name, value in found.items():
        if name.endswith("qkv.bias"):
            # a softmax does not see the keys' bias: Adam makes whole steps of its rounding errors
            value.reshape(3, -1)[1] = 0
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.task("speech")
def test_two_processes_learn_what_one_does(project: Project) -> None:
    # the dryrun model has no dropout, and no model here normalizes over a batch
    for name, more in {
        "devices1": "training.devices=1",
        "devices2": "training.devices=2",
        "devices2-again": "training.devices=2",
        "devices2-accumulate": "training.devices=2 training.run.accumulate=2",
    }.items():
        # seven items for validation: a batch of four and one of three
        more += f" {project.task.smaller} training.run.eval_batches=null"
        project.run(f"python train.py {SMALL} name={name} {more}")
        run = project.path / "runs" / name
        assert len(metrics(run)) == 6, "four iterations and two evaluations, written once"
        assert (run / "train.log").read_text().count(f"best {project.task.metric}") == 1
    runs = project.path / "runs"
    one, two, again, parts = (runs / f"devices{i}" for i in ("1", "2", "2-again", "2-accumulate"))
    for other in (two, parts):
        for key, value in parameters(one).items():
            assert value == pytest.approx(parameters(other)[key], rel=1e-4, abs=1e-6), key
        for first, second in zip(metrics(one), metrics(other), strict=True):
            assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
            assert first.get(project.task.metric) == second.get(project.task.metric)
    assert weights(two) == weights(again), "a seed gives the same weights twice"


@pytest.mark.task("speech")
def test_one_device_starts_no_process(project: Project) -> None:
    process = start(project, f"{LONG} name=alone training.num_workers=0", "iteration 3/")
    alone = children(process.pid)
    process.kill()
    process.wait()
    assert alone == []


@pytest.mark.task("speech")
def test_a_process_that_is_killed_ends_the_run_with_its_number(project: Project) -> None:
    process = start(project, f"{LONG} name=ranks training.devices=2", "iteration 3/")
    *_, newest = children(process.pid)
    process.send_signal(signal.SIGSTOP)  # so that the other one is lost before anybody looks
    os.kill(newest, signal.SIGKILL)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate()
    assert process.returncode == 2, said
    assert re.search(r"process [01] of 2 was ended by SIGKILL", said)
    assert len(said.rpartition("iteration")[2].splitlines()) < 8, said


def on_node(project: Project, node: int, port: int, command: str) -> "subprocess.Popen[str]":
    variables = {"RUN_NODES": "2", "RUN_NODE": str(node), "RUN_PORT": str(port)}
    return launch(project, command, subprocess.PIPE, **variables)


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


@pytest.mark.task("speech")
def test_two_nodes_learn_what_two_devices_do(project: Project, port: int) -> None:
    project.run(f"python train.py {SMALL} name=one-node training.devices=2")
    second = on_node(project, 1, port, f"{SMALL} name=two-nodes training.lr=1")
    first = on_node(project, 0, port, f"{SMALL} name=two-nodes")
    said = first.communicate(timeout=120)
    heard = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), (said, heard)
    assert said[0].startswith("name=two-nodes\n")
    assert heard[0] == "", "the first node prints"
    # the config is that of the first node, whatever the others were told
    nodes = parameters(project.path / "runs/two-nodes")
    for key, value in parameters(project.path / "runs/one-node").items():
        assert value == pytest.approx(nodes[key], rel=1e-4, abs=1e-6), key
    assert "now" not in (project.path / "runs/two-nodes/record.json").read_text()


@pytest.mark.task("speech")
def test_a_node_that_never_joins_is_named(project: Project, port: int) -> None:
    command = f"{SMALL} name=waiting engine.join_seconds=3"
    first = on_node(project, 0, port, command)
    _, error = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "after 3 s (engine.join_seconds) missing: node 1" in error
    assert "Traceback" not in error
    second = on_node(project, 1, port, command)
    _, error = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"engine.first_node = localhost: not reached at port {port}" in error
    assert len(error.splitlines()) < 5, error


@pytest.mark.task("speech")
def test_a_port_in_use_is_told(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first = on_node(project, 0, port, f"{SMALL} name=no-port")
        _, error = first.communicate(timeout=60)
    assert first.returncode == 2
    assert f"engine.port = {port}: cannot listen there (the port is in use)" in error


@pytest.mark.task("speech")
def test_a_batch_that_nodes_cannot_share_is_refused(project: Project, port: int) -> None:
    first = on_node(project, 0, port, f"{SMALL} training.batch_size=5")
    _, error = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "training.loader.batch_size = 5: expected a multiple of 2" in error


@pytest.mark.task("speech")
def test_torchrun_is_refused(project: Project) -> None:
    torchrun = "-m torch.distributed.run --standalone --nproc_per_node=2"
    done = subprocess.run(
        [project.python, *torchrun.split(), "train.py", *SMALL.split(), "name=by-torchrun"],
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "python train.py training.devices=2" in done.stderr
    assert "exitcode  : 2" in done.stderr
    assert not (project.path / "runs/by-torchrun").exists()
