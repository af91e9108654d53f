"""How fast a run says it is, what it waits for and holds, and its profile."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from .commands import Project, Render

DRYRUN = "python train.py model=dryrun training=dryrun training.num_workers=0"
SEEDS = """
import random, sys
import numpy as np, torch
from my_project.engine.data.order import seed_all

def draw(*numbers):
    seed_all(*numbers)
    return random.random(), np.random.rand(), torch.rand(()).item()

first, again = draw(1, 23), draw(1, 23)
others = draw(12, 3), draw(1, 24), draw(1, 23, 0), draw(2, 23)
assert first == again, (first, again)
for place, value in enumerate(first):
    assert all(value != other[place] for other in others), place
"""


def lines(run: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says of training."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["split"] == "train"]


def weights(run: Path) -> bytes:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return (newest / "weights.safetensors").read_bytes()


@pytest.mark.task("speech")
def test_metrics_have_pace_and_memory_and_the_run_ends_with_them(project: Project) -> None:
    done = project.run(f"{DRYRUN} name=paced")
    for line in lines(project.path / "runs" / "paced"):
        assert line["items_per_second"] == pytest.approx(4 * line["iterations_per_second"])
        assert 0 < line["data_wait"] < 1
        assert 0.1 < line["memory_gb"] < 10
    told = re.search(r"items a second, (\d+) % waiting for data; ([\d.]+) GB", done.stdout)
    assert told, done.stdout
    assert float(told[2]) == pytest.approx(line["memory_gb"], rel=0.5)


def test_slow_data_is_seen_and_a_slow_evaluation_is_not_taken_for_it(render: Render) -> None:
    project = Project(render(project_name="Slow data"))
    items = project.path / "slow_data" / "dialtones.py"
    sleep = "        data = self.data\n        {condition}__import__('time').sleep({seconds})\n"
    text = items.read_text()
    items.write_text(
        text.replace("        data = self.data\n", sleep.format(condition="", seconds=0.2), 1)
    )
    project.run(f"{DRYRUN} name=slow")
    assert lines(project.path / "runs" / "slow")[-1]["data_wait"] > 0.5
    evaluation = sleep.format(condition="if self.split == 'valid': ", seconds=0.5)
    items.write_text(text.replace("        data = self.data\n", evaluation, 1))
    project.run(f"{DRYRUN} name=quick training.run.eval_every=1")
    for line in lines(project.path / "runs" / "quick")[1:]:  # the first iteration is slow itself
        assert line["iterations_per_second"] > 0.5


def test_a_loop_may_log_fewer_values(render: Render) -> None:
    """training.py is the user's; a line of output shows the values that there are."""
    project = Project(render(project_name="Fewer"))
    loop = project.path / "fewer" / "training.py"
    text = loop.read_text()
    assert ", grad_norm=grad_norm)" in text
    loop.write_text(text.replace(", grad_norm=grad_norm)", ")"))
    said = project.run(f"{DRYRUN} name=fewer").stdout
    assert re.search(
        r"^iteration 4/4 · loss \S+ · lr \S+ · iterations_per_second ", said, re.MULTILINE
    )


@pytest.mark.task("vision")
def test_a_profile_shows_where_the_time_went_and_changes_nothing(project: Project) -> None:
    constant = f"{DRYRUN} training/optim/scheduler=constant"
    project.run(f"{constant} name=unwatched")
    project.run(f"{constant} name=watched-whole training.profile=true")
    assert (project.path / "runs" / "watched-whole" / "profile" / "trace.json.gz").exists()
    part = "training.profile=true engine.profiler.wait=1 engine.profiler.record=2"
    done = project.run(f"{constant} name=watched {part}")
    runs = project.path / "runs"
    assert weights(runs / "watched") == weights(runs / "unwatched")

    assert "USDT" not in done.stderr
    trace = runs / "watched" / "profile" / "trace.json.gz"
    assert f"{trace.relative_to(project.path)}: open it in https://ui.perfetto.dev" in done.stdout
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = [event.get("name", "") for event in events]
    steps = [name for name in names if name.startswith("Optimizer.step")]
    assert len(steps) == 2, "engine.profiler.record"
    table = (trace.parent / "table.txt").read_text()
    assert table in done.stdout
    shares = [float(share) for share in re.findall(r"^ *\S+ +([\d.]+)%", table, re.MULTILINE)]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 12

    trace.unlink()
    done = project.run(f"{constant} name=watched training.iter_num=6 training.profile=true")
    assert "continues after iteration 4 of 6" in done.stdout
    assert trace.exists(), "of the two iterations that are left"


@pytest.mark.task("speech", "vision")
def test_only_training_waits_for_the_compiler(project: Project) -> None:
    """Its import takes as long as that of torch itself."""
    project.run(f"{DRYRUN} name=compiled")
    for mode in ("check", "evaluate checkpoint=runs/compiled"):
        done = project.run(f"python -X importtime train.py mode={mode}")
        assert re.search(r"\| +torch\n", done.stderr)
        assert "torch._dynamo" not in done.stderr


@pytest.mark.task("speech")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("engine.profiler.record=0", "engine.profiler.record = 0: expected greater than 0"),
        ("training.profile=trace", "training.run.profile = trace: expected true or false"),
        ("training.loader.bucket=0", "training.loader.bucket = 0: expected greater than 0"),
        ("engine.keep_freed_mb=4096", "less than or equal to 2047"),
        (
            "training.precision=tf32 training.run.device=cpu",
            "tf32: the device cpu does not have it",
        ),
    ],
)
def test_wrong_uses_are_told(project: Project, arguments: str, told: str) -> None:
    done = project.run(f"{DRYRUN} name=misused {arguments}", status=2)
    assert told in done.stderr


@pytest.mark.task("speech")
def test_seeds_make_all_random_numbers_and_no_two_seeds_the_same(project: Project) -> None:
    project.run(f"python -c '{SEEDS}'")
