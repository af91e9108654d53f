"""Searches: places that never wait, pruned trials, seeds, kills, and what the summary says."""

import json
import random
import re
import resource
import shlex
import sqlite3
import statistics
import time
from datetime import datetime
from pathlib import Path

import pytest

from .commands import Project, Render, jobs, prepared, record, signal_group, start, table

pytestmark = pytest.mark.task("blank")

LOSS = "training.objective.metric=loss"
SMALL = f"model=tiny training=fastrun training.num_workers=0 training.warmup_steps=1 {LOSS}"
DRYRUN = f"model=tiny training=dryrun {LOSS}"
SEARCH = f"--multirun sweep=optuna {SMALL}"
BESIDE = "hydra/launcher=local hydra.launcher.at_once=2 sweep.parallel=2"
# any evaluation may stop a trial, once one trial is complete
MEDIAN = "sweep.pruner=median sweep.pruning.n_startup_trials=1 sweep.sampler=random"


def trials(sweep: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(sweep / "optuna.db") as database:
        return list(database.execute("select number, state from trials order by number"))


def values(sweep: Path, state: str) -> list[float]:
    query = "select value from trial_values join trials using (trial_id) where state = ?"
    with sqlite3.connect(sweep / "optuna.db") as database:
        return sorted(value for (value,) in database.execute(query, (state,)))


def reports(sweep: Path, trial: int) -> dict[int, float]:
    """What the study knows of a trial's evaluations."""
    query = "select step, intermediate_value from trial_intermediate_values where trial_id = ?"
    with sqlite3.connect(sweep / "optuna.db") as database:
        return dict(database.execute(query, (trial + 1,)))


def evaluations(run: Path) -> dict[int, float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows if row["split"] == "valid"}


def test_a_trial_starts_as_soon_as_a_place_is_free(project: Project) -> None:
    """The first of five trials, drawn with this seed, is as long as the others together."""
    space = "'training.iter_num=choice(8,4000)' training.weight_decay=0.01"
    more = "sweep.sampler=random sweep.seed=2 sweep.n_trials=5 training.eval_every=100000"
    project.run(f"python train.py {SEARCH} {BESIDE} {more} {space} name=uneven")
    runs = [record(file.parent) for file in (project.path / "runs/uneven").glob("*/record.json")]
    times = [[datetime.fromisoformat(it[key]) for key in ("began", "ended")] for it in runs]
    first, last = max(times, key=lambda pair: pair[1] - pair[0])
    assert sum(first <= began and ended <= last for began, ended in times) >= 3, times


PRUNED = (
    f"python train.py {SEARCH} {MEDIAN} sweep.n_trials=6 sweep.seed=59 name=pruned "
    "'training.lr=tag(log,interval(1e-9,1e-2))' training.weight_decay=0.01 "
    "training.iter_num=1000 training.eval_every=50"
)


@pytest.fixture(scope="module")
def pruned(project: Project) -> Path:
    """A search in which learning rates that are much too small are stopped."""
    assert ": pruned\n" in project.run(PRUNED).stdout
    return project.path / "runs/pruned"


def test_pruned_trials_are_marked(project: Project, pruned: Path) -> None:
    states = {row["job"]: row["state"] for row in table(pruned)}
    assert set(states.values()) == {"finished", "pruned"}
    for job, state in states.items():
        assert record(pruned / job)["state"] == state
        last = max(evaluations(pruned / job))
        assert last < 1000 if state == "pruned" else last == 1000
    assert {state for _, state in trials(pruned)} == {"COMPLETE", "PRUNED"}
    assert len(trials(pruned)) == 6
    # each evaluation counts as one step
    seen = reports(pruned, 0)
    assert list(seen) == list(range(1, len(seen) + 1))
    report = project.run("python train.py mode=report input=runs/pruned").stdout
    assert "pruned" in (pruned / "report.csv").read_text()
    assert re.search(r"page +runs/pruned/report.html", report)


def test_the_same_command_again_repeats_no_pruned_trial(project: Project, pruned: Path) -> None:
    before = trials(pruned)
    assert "0 of 6 trials are left" in project.run(PRUNED).stdout
    assert trials(pruned) == before


def test_a_pruned_trial_resumes_by_its_values(project: Project, pruned: Path) -> None:
    stopped = next(row["job"] for row in table(pruned) if row["state"] == "pruned")
    at = max(evaluations(pruned / stopped))
    given = [o for o in record(pruned / stopped)["overrides"] if not o.startswith("sweep.")]
    project.run(
        shlex.join(
            ["python", "train.py", "--multirun", *given, "sweep.sampler=grid", "name=pruned"]
        )
    )
    about = record(pruned / stopped)
    assert about["state"] == "finished"
    assert about["from_iteration"] >= at
    assert about["earlier"][-1]["state"] == "pruned"
    assert max(evaluations(pruned / stopped)) == 1000


def test_each_trial_runs_all_seeds(project: Project) -> None:
    more = f"{MEDIAN} sweep.n_trials=2 training.iter_num=40 training.eval_every=10"
    project.run(f"python train.py {SEARCH} {BESIDE} {more} 'training.seed=range(2)' name=repeats")
    sweep = project.path / "runs/repeats"
    assert len(jobs(sweep)) == 4
    pairs: dict[str, list[Path]] = {}
    for job in sorted(jobs(sweep)):
        pairs.setdefault(job.rpartition(",seed=")[0], []).append(sweep / job)
    assert [len(pair) for pair in pairs.values()] == [2, 2]
    means, curves = [], []
    for pair in pairs.values():
        if all(record(run)["state"] == "finished" for run in pair):
            means.append(statistics.mean(record(run)["objective"] for run in pair))
            seen = [evaluations(run).values() for run in pair]
            curves.append([statistics.mean(both) for both in zip(*seen, strict=True)])
    assert means
    assert values(sweep, "COMPLETE") == pytest.approx(sorted(means))
    # the pruner sees the mean over the seeds
    assert any(list(reports(sweep, 0).values()) == pytest.approx(curve) for curve in curves)


def kill_again_and_again(project: Project, count: int, kills: int, name: str) -> None:
    """A search that is killed at random instants ends with all its trials, each once."""
    chance = random.Random(name)
    command = f"{SEARCH} {BESIDE} sweep.n_trials={count} training.iter_num=200 name={name}"
    command += " training.eval_every=50 training.checkpoint.every=50 sweep.sampler=random"
    sweep = project.path / "runs" / name
    for _ in range(kills):
        process = start(project, command, "trials are left")
        time.sleep(chance.uniform(0, 2.5 * count / kills))
        signal_group(process)
        process.wait()
    project.run(f"python train.py {command}")
    assert trials(sweep) == [(number, "COMPLETE") for number in range(count)]
    assert len(table(sweep)) == len(jobs(sweep)) == count
    assert {row["state"] for row in table(sweep)} == {"finished"}
    rows = {(row["training.optim.lr"], row["training.optim.weight_decay"]) for row in table(sweep)}
    assert len(rows) == count, "none is searched twice"


def test_a_search_killed_twice_ends_with_its_trials(project: Project) -> None:
    kill_again_and_again(project, count=6, kills=2, name="killed-twice")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_search_killed_ten_times_ends_with_sixty_trials(project: Project) -> None:
    kill_again_and_again(project, count=60, kills=10, name="killed-ten-times")


SUMMARY = """
import logging, warnings
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from my_project.engine.sweeps.grid import swept
from my_project.engine.sweeps.search import distribution, edges, importances

optuna.logging.set_verbosity(optuna.logging.ERROR)
ranges = swept([
    "lr=tag(log,interval(1e-4,1e-1))", "size=range(1,9)", "rest=interval(0,1)", "kind=choice(a,b)"
])
space = {key: distribution(override) for key, override in ranges.items()}
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
print(list(edges(study, ranges, space)), list(importances(study, space)))
for _ in range(60):
    trial = study.ask(space)
    study.tell(trial, abs(trial.params["lr"] - 0.003) - 10 * trial.params["size"])
print(*edges(study, ranges, space), *importances(study, space), sep="\\n")
"""


def test_the_summary_names_what_matters_and_best_values_at_an_edge(project: Project) -> None:
    lines = project.run(f"python -c {shlex.quote(SUMMARY)}").stdout.splitlines()
    assert lines[0] == "[] []", "nothing of a study without results"
    size = "warning: the best size is at the edge of its range: 8 of range(1,9)"
    assert [line for line in lines if "size is" in line] == [size]
    assert not any("kind is" in line or "lr is" in line for line in lines)
    shares = re.findall(r"(\w+) (\d\.\d+)", lines[-1].rpartition("): ")[2])
    assert lines[-1].startswith("importance (PED-ANOVA, 60 trials): size ")
    assert {key for key, _ in shares} == {"lr", "size", "rest", "kind"}


WRONG = {
    "sweep.pruner=foo": ["sweep.pruner = foo: expected 'median', 'hyperband' or 'asha'"],
    "sweep.pruner=asha training.eval_every=4": [
        "sweep.pruner = asha: it would prune nothing: a run is evaluated at its end alone",
        "give a smaller training.eval_every, or sweep.pruner=null",
    ],
    "sweep.pruner=median training.eval_every=99": ["a run is evaluated at its end alone"],
    "sweep.pruner=median sweep.pruning.n_warmup_steps=2": [
        "a run is evaluated 2 times",
        "sweep.pruning.n_warmup_steps = 2",
    ],
    "sweep.pruner=median sweep.pruning.min_resource=2": [
        "sweep.pruning.min_resource = 2: expected null: median has n_startup_trials and"
    ],
    "sweep.pruner=asha sweep.pruning.reduction_factor=1": [
        "sweep.pruning.reduction_factor = 1: expected greater than or equal to 2"
    ],
    "sweep.pruner=median sweep.pruning.n_startup_trials=-1": [
        "sweep.pruning.n_startup_trials = -1: expected greater than or equal to 0"
    ],
    "sweep.pruner=hyperband sweep.pruning.min_resource=5 sweep.pruning.max_resource=3": [
        "sweep.pruning.max_resource = 3: expected above pruning.min_resource (5)"
    ],
    "training.seed=interval(0,3)": [
        "training.run.seed=interval(0,3): each trial runs all its values; name them"
    ],
    "sweep=null sweep.pruner=median training.lr=1,2": [
        "sweep.pruner = median: expected null with sweep.sampler=grid"
    ],
    "training.lr=1 training.weight_decay=0 training.seed=range(3)": ["nothing to search"],
}


def test_what_is_wrong_is_reported_before_the_first_trial(project: Project) -> None:
    given = [["--multirun", "sweep=optuna", *DRYRUN.split(), *shlex.split(it)] for it in WRONG]
    for arguments, outcome in zip(WRONG, prepared(project, given), strict=True):
        assert outcome.startswith("refused "), (arguments, outcome)
        for text in WRONG[arguments]:
            assert text in outcome, arguments


def test_a_long_range_is_checked_by_its_ends(project: Project) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    range_ = "training.iter_num=range(10,9001)"
    (outcome,) = prepared(project, [["--multirun", "sweep=optuna", *DRYRUN.split(), range_]])
    assert outcome.startswith("ran "), outcome
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20
    range_ = "training.iter_num=range(-1,9001)"
    (outcome,) = prepared(project, [["--multirun", "sweep=optuna", *DRYRUN.split(), range_]])
    assert "training.run.iter_num = -1: expected greater than 0" in outcome


def test_a_search_runs_without_slurm(render: Render) -> None:
    path = render(task="blank", parts=["search"])
    more = "sweep.n_trials=1 sweep.sampler=random name=plain"
    Project(path).run(f"python train.py {SEARCH} {more}")
    assert trials(path / "runs/plain") == [(0, "COMPLETE")]
