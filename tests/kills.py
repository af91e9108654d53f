"""Runs killed at random instants end with the weights of an uninterrupted run.

python -m tests.kills 20 tries twenty, in a project rendered for it.
"""

import hashlib
import itertools
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .commands import PRELOADED, Project, launch, signal_group

ITERATIONS = 40
# two dozen iterations an epoch, so that most kills come in the middle of one
COMMAND = (
    "model=dryrun training=dryrun {dropout}=0.1 {smaller} "
    f"training.iter_num={ITERATIONS} training.run.eval_every=10 "
    "training.run.eval_batches=null training.checkpoint.every=4 training.lr=1e-3"
)
VARIANTS = {
    "in the process itself": "training.num_workers=0",
    "with workers": "training.num_workers=4",
    "accumulating": "training.num_workers=2 training.run.accumulate=2",
    "in bf16": "training.num_workers=2 training.precision=bf16",
    "with an average, in fp16": "training.ema=0.9 training.precision=fp16 training.num_workers=1",
    "in two processes": "training.num_workers=1 training.devices=2",
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass
class Killer:
    """Starts a variant's run again and again, and ends it before it is done."""

    project: Project
    chance: random.Random
    variants: dict[str, str]

    def start(self, name: str, variant: str) -> "subprocess.Popen[str]":
        command = COMMAND.format(
            dropout=self.project.task.dropout, smaller=self.project.task.smaller
        )
        return launch(self.project, f"{command} {self.variants[variant]} name={name}")

    def finish(self, name: str, variant: str) -> str:
        """Run to the end; return the hash of the final weights."""
        process = self.start(name, variant)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        assert "Traceback" not in said, said
        weights = self.checkpoints(name) / f"iteration-{ITERATIONS:09d}" / "weights.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def checkpoints(self, name: str) -> Path:
        return self.project.path / "runs" / name / "checkpoints"

    def kill(self, name: str, variant: str, number: signal.Signals, while_saving: bool) -> int:
        """Start the run and send it a signal at a random instant; return the iteration of then."""
        process = self.start(name, variant)
        assert process.stdout
        iteration, until = 0, self.chance.randint(1, ITERATIONS - 8)
        said = []
        for line in process.stdout:
            said.append(line)
            if at := re.match(r"iteration (\d+)/", line):
                iteration = int(at[1])
            if iteration >= until:
                break
        if while_saving:
            waited_until = time.monotonic() + 5
            while time.monotonic() < waited_until and process.poll() is None:
                if any(self.checkpoints(name).glob(".iteration-*")):
                    break
        time.sleep(self.chance.uniform(0, 0.002 if while_saving else 0.05))
        if number == signal.SIGKILL or self.chance.random() < 0.5:
            signal_group(process, number)  # as a terminal or a cluster does
        else:
            process.send_signal(number)
        rest, _ = process.communicate()
        said.append(rest)
        assert process.returncode in (0, -signal.SIGKILL, 128 + number), "".join(said)
        assert "Traceback" not in "".join(said), "".join(said)
        return iteration


def kill_and_compare(
    project: Project, tries: int, seed: int, variants: dict[str, str] = VARIANTS
) -> list[tuple[str, bool]]:
    """What was tried, and whether the weights at the end were the same."""
    killer = Killer(project, random.Random(seed), variants)
    uninterrupted: dict[str, str] = {}
    results = []
    for i, variant in zip(range(tries), itertools.cycle(variants), strict=False):
        if variant not in uninterrupted:
            uninterrupted[variant] = killer.finish(f"uninterrupted-{seed}-{i}", variant)
        number = SIGNALS[i % len(SIGNALS)]
        while_saving = i % 3 == 0
        at = killer.kill(f"killed-{seed}-{i}", variant, number, while_saving)
        same = killer.finish(f"killed-{seed}-{i}", variant) == uninterrupted[variant]
        when = "while saving" if while_saving else "in between"
        results.append((f"{variant}, {number.name} after iteration {at}, {when}", same))
        print(f"{'same' if same else 'DIFFERENT'}  {results[-1][0]}", flush=True)
    return results


def main() -> None:
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    root = Path(__file__).parent.parent
    folder = Path(tempfile.mkdtemp())
    copier = [sys.executable, "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref", "HEAD"]
    subprocess.run([*copier, str(root), str(folder / "project")], check=True)
    PRELOADED.lock.acquire()  # every run is a Python of its own
    results = kill_and_compare(Project(folder / "project"), tries, seed=int(time.time()))
    shutil.rmtree(folder)
    print(f"{sum(same for _, same in results)} of {tries}")


if __name__ == "__main__":
    main()
