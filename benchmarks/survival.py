"""What surviving costs: saving beside training, and resuming beside starting fresh."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.loop import package_of

TINY = (
    "train.py model=tiny training=fastrun training/optim/scheduler=constant "
    "training.run.eval_every=10000000"
)
EVERY = 100

# in the project: loads its run's newest checkpoint, times saving it, and moves one far ahead
PROBE = """\
import sys, time
import torch
from dataclasses import replace
from pathlib import Path

from {package}.engine.checkpoints.store import Checkpoints
from {package}.engine.load import load
from {package}.project import PROJECT
from {package}.optim import build_optimizers

run, far = Path(sys.argv[1]), Path(sys.argv[2])
model, cfg = load(PROJECT, run, "training=fastrun", "training/optim/scheduler=constant")
scaler = torch.amp.GradScaler(next(model.parameters()).device.type, enabled=False)
states = {{**build_optimizers(model, cfg.training), "scaler": scaler}}
checkpoints = Checkpoints(PROJECT, cfg, run)
progress = checkpoints.restore(model, None, states)
checkpoints.run_dir = far
for i in range(21):
    ahead = replace(progress, iteration=100_000 - 20 + i, last_eval=100_000 - 20 + i)
    start = time.perf_counter()
    checkpoints.save(ahead, None)
    print(time.perf_counter() - start)
"""


def until(line: str, project: Path, *more: str) -> float:
    """Seconds until a run prints a line that begins so; then it is killed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *TINY.split(), "training.run.log_every=1", *more],
        cwd=project,
        env={key: value for key, value in os.environ.items() if key != "RUN_NAME"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for said in process.stdout:
        if said.startswith(line):
            break
    else:
        raise AssertionError(f"never printed {line}")
    took = time.perf_counter() - start
    process.kill()
    process.wait()
    return took


def rows(project: Path) -> Iterator[str]:
    """Lines for the table of RESULTS.md."""
    short = [*TINY.split(), "training.iter_num=200", f"training.checkpoint.every={EVERY}"]
    subprocess.run(
        [sys.executable, *short, "name=near"], cwd=project, check=True, capture_output=True
    )
    metrics = [json.loads(line) for line in (project / "runs/near/metrics.jsonl").open()]
    rates = [row["iterations_per_second"] for row in metrics if row["split"] == "train"]
    rate = statistics.median(rates)
    probe = PROBE.format(package=package_of(project))
    command = [sys.executable, "-c", probe, "runs/near", "runs/far"]
    far = project / "runs/far"
    far.mkdir(parents=True)
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    save = statistics.median(map(float, done.stdout.split()))
    share = 100 * save * rate / EVERY
    yield (
        f"| saving the tiny model every {EVERY} iterations | {share:.2f} % of the time "
        f"({1000 * save:.0f} ms each) | 5 % |"
    )
    for at, name in ((200, "near"), (100_000, "far")):
        first, more = f"iteration {at + 1}/", ["training.iter_num=200000", f"name={name}"]
        times = [(until(first, project, *more), until("iteration 1/", project)) for _ in range(5)]
        ratio = statistics.median(a / b for a, b in times)
        resumed, fresh = (statistics.median(column) for column in zip(*times, strict=True))
        yield (
            f"| first new iteration of a run resumed at {at:,} | {ratio:.2f} x a fresh run's "
            f"({resumed:.2f} s, {fresh:.2f} s) | 1.5 x |"
        )
