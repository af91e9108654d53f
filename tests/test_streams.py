"""Streams: exact resume, batches by tokens, each item once in an evaluation, and the messages."""

import json
import random
import shutil
from pathlib import Path

import pytest

from .commands import SMALL, Project, copy_project, signal_group, start, weights

pytestmark = pytest.mark.task("speech")

# at the end of a project's data.py: its items as rows of shards that have no index
STREAM = '''

class Rows:
    """The numbers of a split's items, in shards."""

    def __init__(self, shards):
        self.shards, self.shard_number, self.row = shards, 0, 0

    @property
    def num_shards(self):
        return len(self.shards)

    def shard(self, num_shards, index):
        return Rows(self.shards[index::num_shards])

    def __iter__(self):
        while self.shard_number < len(self.shards):
            rows = self.shards[self.shard_number]
            while self.row < len(rows):
                if os.environ.get("FAULT") == f"hang {rows[self.row]}":
                    time.sleep(1000)
                self.row += 1
                with open(os.environ.get("READ", os.devnull), "a") as file:
                    print(rows[self.row - 1], file=file)
                yield rows[self.row - 1]
            self.shard_number, self.row = self.shard_number + 1, 0

    def state_dict(self):
        return {"shard": self.shard_number, "row": self.row}

    def load_state_dict(self, state):
        self.shard_number, self.row = state["shard"], state["row"]


_open_items = open_items


def open_items(cfg, split):
    items, count = _open_items(cfg, split), int(os.environ.get("SHARDS", "5"))

    def read(row):
        audio, text = items[row]
        if split == "train":
            audio = audio + 0.01 * np.random.randn(*audio.shape).astype("float32")
            audio *= np.nan if os.environ.get("FAULT") == f"nan {row}" else 1
        return audio, text

    size = 0 if split == os.environ.get("EMPTY") else len(items)
    shards = [[*range(i, size, count)] for i in range(count)]
    return Stream(Rows(shards), read, items.length)
'''
# two to three epochs in windows that divide neither the shards nor the batches
RUN = (
    f"{SMALL} data.items.train=53 data.items.valid=9 data.items.test=9 training.iter_num=30 "
    "training.run.eval_every=10 training.run.eval_batches=null training.checkpoint.every=3 "
    "training.loader.window=7 training.lr=1e-3 model.encoder.dropout=0.1"
)
BUDGET = "training.loader.batch_tokens=100 training.run.accumulate=2"
WORKERS = ("training.num_workers=0", "training.num_workers=2", "training.num_workers=1")


@pytest.fixture(scope="module")
def streaming(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    copy = copy_project(project.path, tmp_path_factory.mktemp("streaming") / "project")
    (data,) = copy.glob("*/data.py")
    package = data.parent.name
    head = f"import os, time\nimport numpy as np\nfrom {package}.engine.data.stream import Stream\n"
    data.write_text(head + data.read_text() + STREAM)
    evaluation = data.with_name("evaluation.py")  # draws its worst items by index
    text = evaluation.read_text()
    evaluation.write_text(text.replace("import open_items", "import _open_items as open_items"))
    return Project(copy, task=project.task)


def killed(project: Project, name: str, more: str, workers: tuple[str, ...], seed: int) -> Path:
    """A run that was killed once with each number of workers, then finished with the first."""
    chance = random.Random(seed)
    for number, count in enumerate(workers):
        until = f"iteration {chance.randint(8 * number + 4, 8 * number + 10)}/"
        process = start(project, f"{RUN} {more} {count} name={name}", until)
        signal_group(process)
        process.wait()
    said = project.run(f"python train.py {RUN} {more} {workers[0]} name={name}").stdout
    assert "continues after iteration" in said
    return project.path / "runs" / name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", BUDGET])
def test_killed_runs_end_with_the_same_weights_whatever_the_workers(
    streaming: Project, how: str
) -> None:
    name = f"run{len(how)}"
    streaming.run(f"python train.py {RUN} {how} training.num_workers=0 name={name}")
    uninterrupted = weights(streaming.path / "runs" / name)
    assert weights(killed(streaming, f"{name}-killed", how, WORKERS, len(how))) == uninterrupted
    streaming.run(f"python train.py {RUN} {how} name={name}-w2 training.num_workers=2")
    assert weights(streaming.path / "runs" / f"{name}-w2") == uninterrupted


@pytest.mark.slow
def test_two_processes_resume_exactly_and_another_number_is_refused(streaming: Project) -> None:
    two = f"{BUDGET} training.devices=2 training/optim/scheduler=constant"
    two += " training.run.eval_batches=1"  # none for the second process
    streaming.run(f"python train.py {RUN} {two} training.num_workers=0 name=two")
    runs = streaming.path / "runs"
    assert weights(killed(streaming, "two-killed", two, WORKERS[2:], 5)) == weights(runs / "two")
    one = f"python train.py {RUN} {two} name=two training.iter_num=34 training.devices=1"
    for more in ("", "mode=check"):
        refused = streaming.run(f"{one} {more}", status=2).stderr
        assert "training.run.devices: 1 processes, but 2 read the shards in runs/two/" in refused
        assert "give training.devices=2, or resume=force" in refused
    assert "continues after iteration 30" in streaming.run(f"{one} resume=force").stdout


# in the project: each batch of a run's first iterations, and each item's length
BATCHES = """
import json, sys
from itertools import islice
from my_project.engine.compose.validate import Checker
from my_project.engine.data.loader import train_loader
from my_project.project import PROJECT

cfg = Checker(PROJECT).check(sys.argv[2:])
loader = train_loader(PROJECT, cfg)
for batch in islice(loader, int(sys.argv[1])):
    names = [loader.data.name(index) for index in loader.consumed[-1]]
    print(json.dumps([batch["symbols"].tolist(), names]))
"""


def batches(project: Project, count: int, overrides: str) -> list[tuple[list[int], list[str]]]:
    """The lengths of the items in a run's first micro-batches, and their names."""
    package = next(project.path.glob("*/project.py")).parent.name
    script = project.path / "batches.py"
    script.write_text(BATCHES.replace("my_project", package))
    done = project.run(f"python batches.py {count} {overrides}")
    script.unlink()  # others share the project
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


# twenty items in each of five shards
HUNDRED = f"{SMALL} data.items.train=100 data.symbols=[1,40] training.run.iter_num=1000"


@pytest.mark.parametrize("indexed", [False, True])
def test_batches_stay_within_a_budget_and_an_epoch_has_each_item(
    streaming: Project, project: Project, indexed: bool
) -> None:
    more = "training.loader.batch_tokens=240 training.run.accumulate=2 training.loader.shards=5"
    found = batches(project if indexed else streaming, 60, f"{HUNDRED} {more}")
    for lengths, _ in found:
        assert max(lengths) * len(lengths) <= 120
    sizes = [len(lengths) for lengths, _ in found]
    assert min(sizes) < 4 < max(sizes), "as many as fit"
    padding = [sum(lengths) / (max(lengths) * len(lengths)) for lengths, _ in found]
    assert sum(padding) / len(found) > 0.8, "sorted by length"
    of_shards = [[name for _, names in found[shard::5] for name in names] for shard in range(5)]
    for first in (0, 20):  # an epoch of each shard
        assert len({name for names in of_shards for name in names[first : first + 20]}) == 100
    assert all(names[:20] != names[20:40] for names in of_shards)


def test_batches_of_a_number_hold_that_many(streaming: Project) -> None:
    found = batches(
        streaming, 50, f"{HUNDRED} training.loader.batch_size=8 training.loader.window=12"
    )
    assert {len(lengths) for lengths, _ in found} == {8}
    first = [name for _, names in found[::5] for name in names]
    # a window of twelve ends with a full batch
    assert {*first[:16]} == {f"shard 0 of 5, item {i}" for i in range(16)}
    assert first[:16] != sorted(first[:16], key=lambda name: int(name.split()[-1]))
    again = batches(streaming, 50, f"{HUNDRED} training.loader.batch_size=8 training.run.seed=1")
    assert again != found


def test_an_evaluation_has_each_item_once(
    streaming: Project, project: Project, dryrun: str
) -> None:
    checkpoint = shutil.copytree(project.path / "runs" / dryrun, streaming.path / "runs/dry")
    whole = f"{SMALL} data.items.test=53 training.run.eval_batches=null training.num_workers=2"
    command = f"python train.py mode=evaluate checkpoint={checkpoint} {whole} name="
    project.run(f"{command}plain")
    plain = json.loads((project.path / "runs/evaluate/plain/metrics.json").read_text())
    for shards in ("5", "60", "1"):  # of sixty, seven are empty
        streaming.run(f"{command}{shards} training.loader.shards={shards}", SHARDS=shards)
        folder = checkpoint / "evaluate" / shards
        assert json.loads((folder / "metrics.json").read_text())["loss"] == pytest.approx(
            plain["loss"]
        )
        rows = [json.loads(line) for line in (folder / "items.jsonl").open()]
        assert len({row["item"] for row in rows}) == len(rows) == 53
        assert rows[0]["item"] == f"shard 0 of {shards}, item 0"
    streaming.run(f"{command}two training.run.eval_batches=2")  # a batch of each of two shards
    rows = [json.loads(line) for line in (checkpoint / "evaluate/two/items.jsonl").open()]
    assert [row["item"] for row in rows] == [
        f"shard {shard} of 5, item {i}" for shard in range(2) for i in range(4)
    ]


def test_check_reads_a_window_and_a_batch(streaming: Project, tmp_path: Path) -> None:
    read = tmp_path / "read"
    sizes = "data.items.train=100 data.items.valid=80 training.loader.window=10"
    check = f"python train.py mode=check {SMALL} {sizes} training.num_workers=2"
    assert (
        "a batch of each of train, valid, test was read"
        in streaming.run(check, READ=str(read)).stdout
    )
    assert len(read.read_text().split()) < 30


def test_problems_of_a_stream_are_reported(streaming: Project) -> None:
    def refused(overrides: str, **environment: str) -> str:
        return streaming.run(f"python train.py {RUN} {overrides}", status=2, **environment).stderr

    assert "training.loader.limit = 4: a stream has no limit" in refused("training.limit=4")
    printed = refused("training.devices=2", SHARDS="1")
    assert "2 processes cannot share 1 shards of a stream" in printed
    printed = refused("training.loader.batch_tokens=4 training.num_workers=1")
    assert "of 5, item " in printed
    assert "a micro-batch holds 4" in printed
    printed = refused("mode=check data.items.valid=1", EMPTY="valid")
    assert "data = dialtones: a split to evaluate has no items in its shards" in printed
    printed = refused("data.items.train=7 training.num_workers=1", SHARDS="8")
    assert "shard 7 of 8 has no items" in printed


def test_messages_name_an_item_by_its_shard(streaming: Project) -> None:
    more = "training.num_workers=1 engine.loader_seconds=2"
    hangs = streaming.run(f"python train.py {RUN} {more}", status=2, FAULT="hang 11").stderr
    assert "data worker 0 reads shard 1 of 5, item 2" in hangs
    check = f"python train.py mode=check {RUN} {more}"
    hangs = streaming.run(check, status=2, FAULT="hang 0").stderr
    assert "split train, item shard 0 of 5, item 0: Expired" in hangs
    spoilt = f"python train.py {RUN} training.devices=2 training.run.log_every=5"
    printed = streaming.run(spoilt, status=2, FAULT="nan 11").stderr
    assert "a loss or gradient is not finite at iteration " in printed
    assert "shard 1 of 5, item 2" in printed
    items = printed.split("the items of its batch:")[1].split("if these items")[0]
    assert items.count("shard") == 4, "of both processes"
