"""What mode=check fit=true predicts, against the run itself: peak memory and time of a fastrun.

python -m benchmarks.fit [TASK …] prints a table for RESULTS.md.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import copier

from benchmarks.weigh import ROOT

TASKS = ["speech", "vision"]
SIZES = ["dryrun", "tiny", "base"]
# iterations of a fastrun: a thousand of the largest take hours on two cores
ITERATIONS = {"dryrun": 1000, "tiny": 1000, "base": 20}


def train(project: Path, *overrides: str) -> tuple[str, float]:
    """What a command printed, and its seconds."""
    command = [sys.executable, "train.py", "training=fastrun", *overrides]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - start


def measure(project: Path, task: str, sizes: list[str]) -> Iterator[str]:
    """A row for each size: predicted, measured, their ratio."""
    for size in sizes:
        count = ITERATIONS[size]
        given = (f"model={size}", f"training.iter_num={count}", "training.warmup_steps=5")
        check = ("mode=check", "fit=true", "format=json", "engine.fit.tries=0")
        found: dict[str, Any] = {
            row["check"]: row["figures"]
            for row in json.loads(train(project, *given, *check)[0])
            if "figures" in row
        }
        output, seconds = train(project, *given, f"name={size}")
        used = re.search(r"; ([\d.]+) GB used", output)
        assert used
        memory, total = (
            found["memory"]["ranks"][0]["peak_bytes"] / 1e9,
            found["time"]["total_seconds"],
        )
        again = found.get("recompute")
        saved = f"{again['saved_bytes'] / 1e6:.0f} MB" if again else ""
        cost = f"{again['time_ratio']:.2f} x" if again else ""
        yield (
            f"| {task} {size}, {count} iterations | {memory:.3f} GB | {float(used[1]):.3f} GB "
            f"| {memory / float(used[1]):.3f} | {total:.1f} s | {seconds:.1f} s "
            f"| {total / seconds:.3f} | {saved} | {cost} |"
        )


def table(tasks: list[str], sizes: list[str]) -> Iterator[str]:
    """The table of RESULTS.md."""
    yield (
        "| run | memory predicted | measured | ratio | time predicted | measured | ratio "
        "| gradient checkpointing saves | time of an iteration |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder:
            answers = {"project_name": "Fit", "task": task, "parts": ["report", "fit"]}
            copier.run_copy(str(ROOT), folder, answers, vcs_ref="HEAD", defaults=True, quiet=True)
            yield from measure(Path(folder), task, sizes)


def main() -> None:
    """Of the tasks and sizes that are named, or of all."""
    tasks = [it for it in sys.argv[1:] if it not in SIZES] or TASKS
    sizes = [it for it in sys.argv[1:] if it in SIZES] or SIZES
    for row in table(tasks, sizes):
        print(row, flush=True)


if __name__ == "__main__":
    main()
