"""What it costs to be seen: logging, trackers, and a report of many runs."""

import json
import math
import random
import subprocess
import time
from pathlib import Path

import yaml

from benchmarks.loop import package_of

TRACKERS = ("none", "tensorboard", "wandb", "mlflow")

# runs train.py and prints the share of the loop's time that goes into logging
SHARE = """\
import runpy
import sys
import time

from {package}.engine.trackers.base import Tracker
from {package}.engine.train.metrics_file import MetricsFile
from {package}.engine.train.progress_bar import ProgressBar
from {package}.engine.train.session import Session

spent = []


def timed(kind, name):
    inner = getattr(kind, name)

    def outer(*arguments, **named):
        start = time.perf_counter()
        inner(*arguments, **named)
        spent.append(time.perf_counter() - start)

    setattr(kind, name, outer)


timed(MetricsFile, "write")
timed(Tracker, "log")
timed(ProgressBar, "show")
timed(ProgressBar, "show_eval")
enter, leave = Session.__enter__, Session.__exit__
began = []


def begin(session):
    entered = enter(session)
    began.append(time.perf_counter())
    return entered


def end(session, *arguments):
    print("share", sum(spent) / (time.perf_counter() - began[0]))
    leave(session, *arguments)


Session.__enter__, Session.__exit__ = begin, end
runpy.run_path("train.py", run_name="__main__")
"""


def rows(project: Path, python: str) -> list[str]:
    """Lines of the second table of RESULTS.md; the project has every tracker."""
    script = project / "share.py"
    script.write_text(SHARE.format(package=package_of(project)))
    found = []
    for tracker in TRACKERS:
        command = [python, "share.py", "model=tiny", f"tracker={tracker}", f"name=logs-{tracker}"]
        command += ["training.iter_num=500", "training.eval_every=500", "training.warmup_steps=10"]
        command += ["training.num_workers=0", "training.run.eval_batches=2"]
        command += ["tracker.mode=offline"] if tracker == "wandb" else []
        done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
        share = float(done.stdout.rpartition("share ")[2].split()[0])
        what = f"logging every 50 iterations, tiny model, tracker={tracker}, of the loop's time"
        found.append(f"| {what} | {share:.2%} | 1 % |")
    return found + report(project, python)


def report(project: Path, python: str, runs: int = 300, points: int = 5000) -> list[str]:
    """How long the page of many long runs takes, and how large it is."""
    example = project / "runs" / "logs-none"
    config = yaml.safe_load((example / "config.yaml").read_text())
    chance = random.Random(0)
    sweep = project / "runs" / "many"
    for i in range(runs):
        job = sweep / f"seed={i}"
        job.mkdir(parents=True)
        config["training"]["run"]["seed"] = i
        (job / "config.yaml").write_text(yaml.safe_dump(config))
        (job / "record.json").write_text((example / "record.json").read_text())
        (job / "overrides.yaml").write_text(f"- training.run.seed={i}\n")
        lines = []
        for step in range(1, points + 1):
            loss = 3 * math.exp(-step / 800) + chance.gauss(0.3, 0.05)
            values = {"loss": loss, "lr": 1e-3, "grad_norm": 2 * loss, "iterations_per_second": 9.0}
            lines.append(json.dumps({"step": 50 * step, "split": "train", **values}) + "\n")
            if step % 100 == 0:
                lines.append(json.dumps({"step": 50 * step, "split": "valid", "loss": loss}) + "\n")
        (job / "metrics.jsonl").write_text("".join(lines))
    (sweep / "sweep.csv").touch()
    start = time.perf_counter()
    command = [python, "train.py", "mode=report", "input=runs/many"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    took = time.perf_counter() - start
    size = (sweep / "report.html").stat().st_size / 1e6
    what = f"a report of {runs} runs of {points:,} points"
    return [f"| {what} | {took:.1f} s | 20 s |", f"| its page | {size:.1f} MB | 10 MB |"]
