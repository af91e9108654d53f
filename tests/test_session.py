"""The seam of the loop: a user's own state and curves, and how often a run reads what it needs."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from .commands import Project, Render, signal_group, start

pytestmark = pytest.mark.task("speech")

RUN = "model=dryrun training=dryrun training.iter_num=40 training.run.eval_every=20"
RUN += " training.checkpoint.every=4 training.run.log_every=2"


@pytest.fixture(scope="module")
def project(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose loop keeps an average of the weights and a counter, and logs a curve."""
    path = tmp_path_factory.mktemp("session") / "project"
    shutil.copytree(render(project_name="Session"), path, ignore=shutil.ignore_patterns("runs"))
    loop = path / "session_project" / "training.py"
    loop = loop if loop.exists() else next(path.glob("*/training.py"))
    text = loop.read_text()
    for old, new in (
        (
            "average=average, scaler=scaler, **optimizers)\n",
            "average=average, scaler=scaler, mean=mean, counter=counter, **optimizers)\n",
        ),
        (
            "    average = build_average(",
            "    mean = torch.optim.swa_utils.AveragedModel(model)\n"
            "    counter = Counter()\n"
            "    average = build_average(",
        ),
        (
            "                    scaler.step(optimizer)\n",
            "                    scaler.step(optimizer)\n"
            "                mean.update_parameters(model)\n"
            "                counter.seen += 1\n"
            "                if iteration % 3 == 0:\n"
            "                    session.log(twice=2 * loss, seen=counter.seen)\n",
        ),
        (
            "\n\ndef train(",
            "\n\nclass Counter:\n"
            "    seen: object = 0\n"
            "    def state_dict(self):\n"
            "        return {'seen': self.seen}\n"
            "    def load_state_dict(self, state):\n"
            "        self.seen = state['seen']\n"
            "\n\ndef train(",
        ),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    loop.write_text(text)
    return Project(path)


def state(project: Project, name: str, iteration: int = 40) -> dict[str, object]:
    folder = project.path / f"runs/{name}/checkpoints/iteration-{iteration:09d}"
    return dict(torch.load(folder / "state.pt", weights_only=True))


def test_own_state_survives_a_kill(project: Project) -> None:
    project.run(f"python train.py {RUN} name=undisturbed")
    process = start(project, f"{RUN} name=killed", "iteration 20/")
    signal_group(process)
    process.wait()
    assert "continues after iteration" in project.run(f"python train.py {RUN} name=killed").stdout
    undisturbed, killed = state(project, "undisturbed"), state(project, "killed")
    assert undisturbed.keys() == killed.keys() == {"adamw", "scaler", "mean", "counter"}
    assert undisturbed["counter"] == killed["counter"] == {"seen": 40}
    one, other = undisturbed["mean"], killed["mean"]
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert int(one["n_averaged"]) == 40


def test_own_curves_are_logged_where_there_is_a_value(project: Project) -> None:
    project.run(f"python train.py {RUN} name=curves")
    lines = (project.path / "runs/curves/metrics.jsonl").read_text().splitlines()
    rows = {row["step"]: row for row in map(json.loads, lines) if row["split"] == "train"}
    assert [step for step, row in rows.items() if "twice" in row][:3] == [4, 6, 10]
    assert "twice" not in rows[2]
    assert rows[4]["seen"] == 3


def test_an_object_without_a_state_in_the_checkpoint_needs_force(
    project: Project, render: Render
) -> None:
    plain = Project(render(project_name="Session"))
    longer = "training/optim/scheduler=constant"
    plain.run(f"python train.py {RUN} name=plain {longer}")
    shutil.copytree(plain.path / "runs/plain", project.path / "runs/plain")
    more = f"{RUN} name=plain {longer} training.iter_num=44"
    refused = project.run(f"python train.py {more}", status=2).stderr
    assert "has no state of mean, counter" in refused
    assert "resume=force" in refused
    project.run(f"python train.py {more} resume=force")
    assert state(project, "plain", 44)["counter"] == {"seen": 4}


def test_a_state_that_no_checkpoint_can_hold_is_refused_at_once(
    project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "project"
    shutil.copytree(project.path, path, ignore=shutil.ignore_patterns("runs"))
    loop = next(path.glob("*/training.py"))
    loop.write_text(loop.read_text().replace("seen: object = 0", "seen: object = {1, 2}"))
    refused = Project(path).run(f"python train.py {RUN} name=refused", status=2).stderr
    assert "counter.seen is a set, which a checkpoint cannot hold" in refused
    assert not (path / "runs/refused/metrics.jsonl").exists()


COUNTING = """
import collections, runpy, sys
from pathlib import Path

counts = collections.Counter()
read_text = Path.read_text

def counting(self, *arguments, **more):
    counts[self.parent.name + "/" + self.name] += self.name == "checkpoint.json"
    return read_text(self, *arguments, **more)

Path.read_text = counting
from session.config import Config

validate = Config.model_validate.__func__

def validating(cls, *arguments, **more):
    counts["validated"] += 1
    return validate(cls, *arguments, **more)

Config.model_validate = classmethod(validating)
sys.argv[0] = "train.py"
try:
    runpy.run_path("train.py", run_name="__main__")
finally:
    print({key: count for key, count in counts.items() if count})
"""


def test_a_resumed_run_reads_and_validates_once(render: Render) -> None:
    plain = Project(render(project_name="Session"))
    arguments = ["model=dryrun", "training=dryrun", "name=counted"]
    arguments.append("training/optim/scheduler=constant")
    plain.run(f"python train.py {' '.join(arguments)}")
    there = sorted(path.name for path in (plain.path / "runs/counted/checkpoints").iterdir())
    done = subprocess.run(
        [plain.python, "-c", COUNTING, *arguments, "training.iter_num=6"],
        cwd=plain.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts = eval(done.stdout.splitlines()[-1])
    assert counts.pop("validated") == 1
    assert {name: counts[f"{name}/checkpoint.json"] for name in there} == dict.fromkeys(there, 1)


ORDER = """
import resource, time, torch
from types import SimpleNamespace
from {package}.engine.data.order import BatchOrder, EvalOrder

class Many:
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count

def order(count, seed=1, start=0):
    run = SimpleNamespace(seed=seed, iter_num=10**9, accumulate=1)
    loader = SimpleNamespace(batch_size=10, limit=None, bucket=None)
    return BatchOrder(Many(count), SimpleNamespace(run=run, loader=loader), start)

def indices(order, first, count):
    return [index for i in range(first, first + count) for _, index in order.batch(i)]

for count in (10, 30, 9990):
    epochs = [indices(order(count), 1 + e * count // 10, count // 10) for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs), count
    assert epochs[0] != epochs[1] != list(range(count)), count
assert indices(order(9990), 1, 9) != indices(order(9990, seed=2), 1, 9)
assert indices(order(9990), 900, 300) == indices(order(9990, start=899), 900, 300)

before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
batches = [next(iter(order(10**9, start=10**7))), next(iter(EvalOrder(10**9, 10, None)))]
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_an_epoch_has_each_item_once_and_10_9_items_start_at_once(project: Project) -> None:
    package = next(project.path.glob("*/project.py")).parent.name
    code = ORDER.replace("{package}", package)
    done = subprocess.run(
        [project.python, "-c", code], cwd=project.path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 1  # a table of the items would take a minute and 8 GB
    assert kilobytes < 50_000
