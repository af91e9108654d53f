"""What the loop costs beside a bare one and Lightning's Trainer, and how long it waits for data.

python -m benchmarks.loop prints the lines for RESULTS.md. All contestants train at once, each in
its own process, and take turns of some iterations: what else the machine does falls on all alike.
Where torch sees a GPU, that is measured. On a machine without a network PIP_NO_INDEX=1 and
PIP_FIND_LINKS=FOLDER of wheels give pip what it installs: Lightning, in an environment of its own.
"""

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import reading
from benchmarks.contestants import SAID

ROOT = Path(__file__).parent.parent
NAMES = ("ours", "bare", "lightning")
# processes of the same code differ by a per cent or two, by where their memory lies
LAUNCHES = 3


@dataclass
class Size:
    """A model, and how it is trained."""

    name: str
    overrides: list[str]
    workers: tuple[int, ...]
    block: int
    """Iterations of one turn."""
    turns: int
    at_least: float
    """Of the bare loop's steps per second."""


MIDDLE = ["model=base", "model.encoder.layers=4", "training.batch_size=8"]
AT_64 = ["model=base", "model.image.size=64"]
WHOLE = "training.run.accumulate=1"  # the plain loop has no micro-batches
SMALL_TEXT = ["model=small", "training.batch_size=4", WHOLE]
LARGE = ["model=base", "training.batch_size=1024"]
ON_CPU = {
    "speech": [
        # the memory grows with the lengths of audio that were seen: a few turns would not show it
        Size("tiny", ["model=tiny"], (0, 2), block=40, turns=15, at_least=0.97),
        Size("base with 4 of its 16 layers", MIDDLE, (0, 2), block=2, turns=30, at_least=0.99),
    ],
    "vision": [
        Size("tiny", ["model=tiny"], (0, 2), block=20, turns=10, at_least=0.97),
        Size("base at 64 pixels", AT_64, (0, 2), block=2, turns=6, at_least=0.99),
    ],
    "text": [
        Size("tiny", ["model=tiny", WHOLE], (0, 2), block=10, turns=10, at_least=0.97),
        Size("small", SMALL_TEXT, (0, 2), block=2, turns=6, at_least=0.99),
    ],
    "blank": [
        # its step takes a millisecond, so what the loop does beside it shows
        Size("tiny", ["model=tiny"], (0, 2), block=200, turns=10, at_least=0.6),
        # a row is read in a microsecond; seeding what may be random about it takes seven
        Size("base, batches of 1024", LARGE, (0, 2), block=20, turns=6, at_least=0.97),
    ],
}
ON_GPU = {
    "speech": [
        Size("tiny", ["model=tiny"], (4,), block=50, turns=10, at_least=0.97),
        Size("base, bf16, compiled", ["training=fullrun"], (8,), block=50, turns=8, at_least=0.98),
    ],
    "vision": [
        Size("tiny", ["model=tiny"], (4,), block=50, turns=10, at_least=0.97),
        Size("base, bf16, compiled", ["training=fullrun"], (8,), block=50, turns=8, at_least=0.98),
    ],
    "text": [
        Size("tiny", ["model=tiny", WHOLE], (4,), block=50, turns=10, at_least=0.97),
        Size(
            "base, bf16, compiled",
            ["training=fullrun", WHOLE],
            (8,),
            block=50,
            turns=8,
            at_least=0.98,
        ),
    ],
    "blank": [
        Size("tiny", ["model=tiny"], (4,), block=200, turns=10, at_least=0.6),
        Size("base, batches of 1024", LARGE, (8,), block=50, turns=8, at_least=0.97),
    ],
}


class Contestant:
    """A process that trains in turns."""

    def __init__(self, name: str, python: Path, project: Path, run: str, size: Size) -> None:
        never = ["iter_num=1000000", "eval_every=1000000", "checkpoint.every=1000000"]
        settings = [f"training.{setting}" for setting in never]
        settings += ["training.warmup_steps=100", f"training.run.log_every={size.block}"]
        settings += ["training.loader.bucket=null"]  # the others' batches are drawn, no more
        arguments = [name, package_of(project), f"runs/{run}", str(size.block)]
        self.log = (project / f"{name}.log").open("w+")
        self.process = subprocess.Popen(
            [
                python,
                ROOT / "benchmarks" / "contestants.py",
                *arguments,
                *size.overrides,
                *settings,
            ],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self._wait()  # its first block is slow, and does not count

    def turn(self) -> tuple[float, float]:
        """Seconds that its next block takes, and the most memory so far, in megabytes."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._wait()

    def _wait(self) -> tuple[float, float]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(SAID):
                seconds, megabytes = map(float, line.split()[1:])
                return seconds, megabytes
        self.log.seek(0)
        raise AssertionError(self.log.read())

    def end(self) -> None:
        """No more turns."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def package_of(project: Path) -> str:
    """The name of its package."""
    (engine,) = project.glob("*/engine/__init__.py")
    return engine.parent.parent.name


def with_lightning() -> Path:
    """The Python of an environment that adds Lightning to this one."""
    folder = ROOT / "build" / "lightning-venv"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        ours, theirs = (
            subprocess.run([p, "-c", where], check=True, capture_output=True, text=True).stdout
            for p in (sys.executable, python)
        )
        Path(theirs.strip(), "ours.pth").write_text(ours)  # the same torch
        environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
        install = [str(python), "-m", "pip", "install", "--quiet", "lightning"]
        subprocess.run(install, check=True, env=environment)
        (folder / "ready").touch()
    return python


def compete(project: Path, size: Size) -> Iterator[dict[str, tuple[float, float]]]:
    """Seconds and megabytes of each contestant, turn by turn."""
    pythons = {name: Path(sys.executable) for name in NAMES} | {"lightning": with_lightning()}
    for _ in range(LAUNCHES):
        run = f"loop-{secrets.token_hex(3)}"
        with ExitStack() as stack:
            racing = {}
            for name in NAMES:  # ours writes the config that the others read
                racing[name] = Contestant(name, pythons[name], project, run, size)
                stack.callback(racing[name].end)
            for turn in range(size.turns):
                order = NAMES if turn % 2 else NAMES[::-1]
                yield {name: racing[name].turn() for name in order}


def rows(project: Path, task: str) -> Iterator[str]:
    """Lines for the table of RESULTS.md."""
    import torch

    for size in (ON_GPU if torch.cuda.is_available() else ON_CPU)[task]:
        for workers in size.workers:
            size.overrides = [*size.overrides, f"training.num_workers={workers}"]
            yield from contest(project, size, f"{task}, {size.name}, {workers} workers")
            size.overrides = size.overrides[:-1]
    yield from reading.rows(project, task, package_of(project))
    yield from waiting(project, task)
    if task == "speech":
        yield from by_length(project)


def contest(project: Path, size: Size, what: str) -> Iterator[str]:
    """Rate and memory of one contest."""
    found = list(compete(project, size))

    def rate(name: str, floor: str) -> float:
        return statistics.median(turn[floor][0] / turn[name][0] for turn in found)

    def milliseconds(name: str) -> str:
        return f"{1000 * statistics.median(turn[name][0] for turn in found) / size.block:.1f} ms"

    ends = found[size.turns - 1 :: size.turns]  # a peak is that of a whole launch

    def memory(name: str) -> float:
        return statistics.median(turn[name][1] for turn in ends)

    times = f"{milliseconds('ours')}, {milliseconds('bare')} a step"
    of_bare, of_lightning = rate("ours", "bare"), rate("ours", "lightning")
    more = statistics.median(turn["ours"][1] / turn["bare"][1] for turn in ends)
    steps = f"steps per second of a bare loop's, {what}"
    yield f"| {steps} | {of_bare:.3f} ({times}) | {size.at_least} |"
    theirs = milliseconds("lightning")
    yield f"| … of Lightning's Trainer's | {of_lightning:.3f} ({theirs} a step) | above 1 |"
    shown = f"{memory('ours'):.0f} MB, Lightning {memory('lightning'):.0f} MB"
    yield f"| … memory of the bare loop's | {more:.3f} x ({shown}) | 1.05 x |"


def train_lines(project: Path, *settings: str) -> list[dict[str, float]]:
    """What metrics.jsonl says of a run's training."""
    name = f"lines-{secrets.token_hex(3)}"
    command = [sys.executable, "train.py", f"name={name}", *settings]
    command += ["training.run.eval_batches=1", "training.warmup_steps=10"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    lines = map(json.loads, (project / "runs" / name / "metrics.jsonl").open())
    return [line for line in lines if line["split"] == "train"]


def waiting(project: Path, task: str) -> Iterator[str]:
    """The share of the time that the loop waits for its next batch."""
    import torch

    cases = [("tiny", ["model=tiny"], 0), ("tiny", ["model=tiny"], 2)]
    if torch.cuda.is_available():
        cases = [("base", ["training=fullrun"], 8)]
    for model, settings, workers in cases:
        settings += ["training.iter_num=300", f"training.num_workers={workers}"]
        waits = [line["data_wait"] for line in train_lines(project, *settings)]
        what = f"share of the {model} model's time that waits for data, {task}, {workers} workers"
        yield f"| {what} | {statistics.median(waits):.1%} | |"


def by_length(project: Path) -> Iterator[str]:
    """What is gained by batches of items of like length."""

    def rate(bucket: str, *settings: str) -> float:
        settings = (*settings, "training.num_workers=0", f"training.loader.bucket={bucket}")
        lines = train_lines(project, *settings)
        return statistics.mean(line["iterations_per_second"] for line in lines[1:])

    for name, iterations, overrides in (("tiny", 300, ["model=tiny"]), ("middle", 50, MIDDLE)):
        often = [f"training.iter_num={iterations}", "training.run.log_every=10"]
        ratios = [
            rate("10", *often, *overrides) / rate("null", *often, *overrides) for _ in range(3)
        ]
        what = f"steps per second with `training.loader.bucket=10`, of those without, {name} model"
        yield f"| {what} | {statistics.median(ratios):.2f} | |"


def main() -> None:
    """Of the tasks that are named, or of all."""
    print("| what | measured | limit |\n|---|---|---|")
    for task in sys.argv[1:] or ON_CPU:
        with tempfile.TemporaryDirectory() as folder:
            copy = [sys.executable, "-m", "copier", "copy", "-qf", "--vcs-ref=HEAD"]
            copy += ["-d", f"task={task}", str(ROOT), folder]
            subprocess.run(copy, check=True, capture_output=True)
            for row in rows(Path(folder).resolve(), task):
                print(row, flush=True)


if __name__ == "__main__":
    main()
