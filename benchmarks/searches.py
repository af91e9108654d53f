"""Searches: what places without a job cost, and what pruners save.

python -m benchmarks.searches [TRIALS] [SEEDS]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import copier

from tests.commands import ROOT, table

PLACES = 2
TICKS = os.sysconf("SC_CLK_TCK")
SEARCH = (
    "train.py --multirun sweep=optuna hydra/launcher=local hydra.launcher.at_once=2 "
    f"model=tiny training=fastrun training.num_workers=0 sweep.parallel={PLACES}"
)
UNEVEN = "sweep.sampler=random 'training.iter_num=range(200,4001)' training.eval_every=100000"
PRUNED = (
    "data.noise=0.1 training.objective.metric=loss training.iter_num=600 training.eval_every=30 "
    "'training.lr=tag(log,interval(1e-5,1e-1))'"
)
PRUNERS = ("null", "median", "hyperband", "asha", "asha sweep.pruning.min_resource=4")


def processes() -> dict[int, tuple[int, int, float]]:
    """Parent, session and start, in seconds since the machine's, of each process by its number."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(file.parent.name)] = int(fields[1]), int(fields[3]), int(fields[19]) / TICKS
    return found


def time_search(project: Path, arguments: str) -> tuple[float, list[tuple[float, float]]]:
    """Seconds of a whole search, and the start and the end of each of its jobs' processes."""
    command = f"{sys.executable} {SEARCH} {arguments}"
    start, jobs = time.monotonic(), dict[int, tuple[float, float]]()
    search = subprocess.Popen(f"exec {command}", shell=True, cwd=project, stdout=subprocess.DEVNULL)
    while search.poll() is None:
        time.sleep(0.1)
        now, known = time.clock_gettime(time.CLOCK_BOOTTIME), processes()
        for number, (parent, session, began) in known.items():
            # a job leads its session; the search's fork server started it
            if session == number and known.get(parent, (0,))[0] == search.pid:
                jobs[number] = began, now
    assert search.returncode == 0
    return time.monotonic() - start, sorted(jobs.values())


def places(project: Path, trials: int) -> Iterator[str]:
    """How long a search of uneven trials takes, as a multiple of the ideal schedule."""
    whole, jobs = time_search(project, f"{UNEVEN} sweep.n_trials={trials} name=uneven")
    assert len(jobs) == trials
    lengths = [end - began for began, end in jobs]
    ideal = max(max(lengths), sum(lengths) / PLACES)
    span = max(end for _, end in jobs) - jobs[0][0]
    batches = sum(max(lengths[i : i + PLACES]) for i in range(0, trials, PLACES))
    yield (
        f"| a search of {trials} trials of {min(lengths):.1f} to {max(lengths):.1f} s on {PLACES} "
        f"places, of the ideal schedule | {span / ideal:.3f} x ({span:.0f} s, {whole:.0f} s with "
        f"start-up; batches of {PLACES}: {batches / ideal:.2f} x) | 1.1 x |"
    )


def outcome(sweep: Path) -> tuple[int, float]:
    """Iterations of all jobs of a search, and its best objective."""
    total = 0
    for file in sweep.glob("*/metrics.jsonl"):
        total += max(json.loads(line)["step"] for line in file.read_text().splitlines())
    return total, min(float(row["loss"]) for row in table(sweep) if row["loss"])


def pruning(project: Path, trials: int, seeds: int) -> Iterator[str]:
    """What share of the iterations each pruner needs, and what it loses."""
    found: dict[str, list[tuple[int, float]]] = {pruner: [] for pruner in PRUNERS}
    for seed in range(seeds):
        for number, pruner in enumerate(PRUNERS):
            name = f"pruner-{number}-{seed}"
            more = f"sweep.pruner={pruner} sweep.seed={seed} sweep.n_trials={trials} name={name}"
            time_search(project, f"{PRUNED} {more}")
            found[pruner].append(outcome(project / "runs" / name))
            print(pruner, seed, *found[pruner][-1], flush=True)
    best = [value for _, value in found["null"]]
    spread = statistics.stdev(best) if seeds > 1 else 0.0
    for pruner in PRUNERS[1:]:
        pairs = list(zip(found[pruner], found["null"], strict=True))
        share = sum(it[0] for it, _ in pairs) / sum(full[0] for _, full in pairs)
        worse = statistics.mean(it[1] - full[1] for it, full in pairs)
        what = f"iterations of {seeds} searches of {trials} trials with `sweep.pruner={pruner}`"
        noise = f"{worse:+.4f} on {statistics.mean(best):.4f}, which varies by {spread:.4f}"
        yield (
            f"| {what}, of those without; its best loss | {share:.2f}; {noise} between seeds "
            "| 0.5; within the noise |"
        )


def rows(trials: int = 60, seeds: int = 5) -> Iterator[str]:
    """Lines for the table of RESULTS.md."""
    with tempfile.TemporaryDirectory() as folder:
        answers = {"project_name": "Searches", "task": "blank", "parts": ["search"]}
        copier.run_copy(str(ROOT), folder, answers, vcs_ref="HEAD", defaults=True, quiet=True)
        yield from places(Path(folder), trials)
        yield from pruning(Path(folder), trials, seeds)


if __name__ == "__main__":
    for row in rows(*(int(argument) for argument in sys.argv[1:])):
        print(row, flush=True)
