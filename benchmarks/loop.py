"""What the loop costs: steps a second and memory, beside a bare loop and Lightning's Trainer.

python -m benchmarks.loop [bare] prints the tables, for a project rendered for it; the three take turns of
some iterations, so that what else the machine does falls on all alike.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent


@dataclass
class Size:
    """A model and what it is fed."""

    name: str
    overrides: list[str]
    block: int
    """Iterations of one turn."""
    turns: int
    at_least: float
    """Of the bare loop's steps per second."""


# by task, on a CPU
SIZES = {
    "speech": [
        Size("tiny", ["model=tiny"], 10, 40, 0.97),
        Size(
            "base, 4 of its layers",
            ["model=base", "model.encoder.layers=4", "training.batch_size=8"],
            2,
            8,
            0.99,
        ),
    ]
}
ON_GPU = {"speech": [Size("base", ["training=fullrun"], 50, 10, 0.99)]}


class Contestant:
    """A process that trains in turns."""

    def __init__(self, name: str, python: Path, project: Path, run: str, size: Size) -> None:
        (package,) = [path.parent.parent.name for path in project.glob("*/engine/metrics.py")]
        settings = ["training.iter_num=100000", "training.eval_every=100000", "training.warmup_steps=100"]
        settings += ["training.checkpoint.every=100000", f"training.run.log_every={size.block}"]
        command = [HERE / "contestants.py", name, package, f"runs/{run}", str(size.block)]
        self.log = (project / f"{name}.log").open("w+")
        self.process = subprocess.Popen(
            [python, *command, *size.overrides, *settings],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.turn(first=True)  # the first one is slow

    def turn(self, first: bool = False) -> tuple[float, float]:
        """Seconds that its next block takes, and megabytes so far."""
        assert self.process.stdin and self.process.stdout
        if not first:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("block "):
                seconds, megabytes = map(float, line.split()[1:])
                return seconds, megabytes
        self.log.seek(0)
        raise AssertionError(self.log.read())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compete(project: Path, pythons: dict[str, Path], run: str, size: Size) -> dict[str, list[tuple[float,float]]]:
    with ExitStack() as stack:
        contestants = {}
        for name, python in pythons.items():
            contestants[name] = Contestant(name, python, project, run, size)
            stack.callback(contestants[name].end)
        found = {name: [] for name in pythons}
        for _ in range(size.turns):
            for name, contestant in contestants.items():
                found[name].append(contestant.turn())
    return found

if __name__ == "__main__":
    project=Path(sys.argv[1]); which=sys.argv[2]; workers=sys.argv[3]
    import secrets
    py=Path(sys.executable)
    pythons={"ours":py,"bare":py,"lightning":Path("/tmp/h/lv/bin/python")}
    if len(sys.argv)>4: pythons={k:pythons[k] for k in sys.argv[4].split(",")}
    size=SIZES["speech"][int(which)]
    size.overrides.append(f"training.num_workers={workers}")
    f=compete(project,pythons,"loop-"+secrets.token_hex(3),size)
    for a in f:
        times=[s for s,_ in f[a]]
        r=statistics.median(y[0]/x[0] for x,y in zip(f[a],f["bare"]))
        print(a,"ms/step",round(1000*statistics.median(times)/size.block,2),"of bare's rate",round(r,4),"MB",round(f[a][-1][1],1),"x",round(f[a][-1][1]/f["bare"][-1][1],3))
