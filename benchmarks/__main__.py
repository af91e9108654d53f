"""make bench: what README.md claims, each figure a ratio of two commands timed in turn.

Each pair runs A B A B …; the median of the pairwise ratios is the figure. RESULTS.md gets them,
with the machine and the versions.
"""

import importlib.metadata
import itertools
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fit, loop, preflight, searches, seeing, survival, vision, weigh
from tests.commands import Project
from tests.kills import kill_and_compare
from tests.sox import KEYPAD, dial

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
Command = list[str]

EMPTY_APP = """\
import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    pass


main()
"""


def seconds(command: Command, folder: Path) -> float:
    """Wall time of a whole command."""
    # this setting would have a new project compiled each time
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, env=environment)
    return time.perf_counter() - start


def ratio(ours: Command, floor: Command, here: Path, there: Path, pairs: int = 9) -> str:
    """Median of our time over the floor's, and both medians."""
    seconds(ours, here)
    seconds(floor, there)
    times = [(seconds(ours, here), seconds(floor, there)) for _ in range(pairs)]
    middle = statistics.median(a / b for a, b in times)
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{middle:.2f} x | {a:.2f} s | {b:.2f} s"


def copy(template: Path, target: Path) -> Command:
    return [PYTHON, "-m", "copier", "copy", "-qf", "--vcs-ref=HEAD", str(template), str(target)]


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def living(template: Path, project: Path, changed: str) -> Command:
    """A committed project of v0.0.1 of this template, and the command that updates it to v0.0.2."""
    git(template, "tag", "v0.0.1")
    file = template / "template" / changed
    file.write_text(file.read_text() + "# more\n")
    git(template, "commit", "-qam", "More")
    git(template, "tag", "v0.0.2")
    source = ["--vcs-ref=v0.0.1", str(template), str(project)]
    subprocess.run([PYTHON, "-m", "copier", "copy", "-qf", *source], check=True)
    git(project, "init", "-q")
    git(project, "add", "-Af")
    git(project, "commit", "-qm", "Rendered")
    again = f"git reset -q --hard && {PYTHON} -m copier update -qf"
    return ["sh", "-c", again]


def write_trivial(template: Path, names: list[Path]) -> None:
    """A Copier template that renders files of one line."""
    for name in names:
        (template / "template" / name).parent.mkdir(parents=True, exist_ok=True)
        (template / "template" / name).write_text("text\n")
    settings = "_subdirectory: template\nname: {type: str, default: a}\n"
    (template / "copier.yml").write_text(settings)
    git(template, "init", "-q")
    git(template, "add", "-Af")
    git(template, "commit", "-qm", "a")


def kills(project: Path, tries: int) -> Iterator[str]:
    """The row of runs that were killed."""
    same = [same for _, same in kill_and_compare(Project(project, PYTHON), tries, seed=1)]
    killed = "runs killed at a random instant that ended with the same weights"
    yield f"| {killed} | {sum(same)} of {tries} | {tries} of {tries} |"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    project, empty = folder / "project", folder / "empty"
    digits, texts, spirals, tracked = (
        folder / name for name in ("vision", "text", "blank", "tracked")
    )
    subprocess.run(copy(ROOT, project), check=True, capture_output=True)
    for task in ("vision", "text", "blank"):
        command = [*copy(ROOT, folder / task), "-d", f"task={task}"]
        subprocess.run(command, check=True, capture_output=True)
    trackers = 'trackers=["tensorboard","wandb","mlflow"]'
    subprocess.run([*copy(ROOT, tracked), "-d", trackers], check=True, capture_output=True)
    (empty / "conf").mkdir(parents=True)
    (empty / "conf" / "config.yaml").write_text("key: 1\n")
    (empty / "app.py").write_text(EMPTY_APP)
    (project / "app.py").write_text(EMPTY_APP)

    train, app = [PYTHON, "train.py"], [PYTHON, "app.py"]
    show, torch = [*app, "--cfg", "job"], [PYTHON, "-c", "import torch"]
    alike = [PYTHON, str(project / "app.py"), "--cfg", "job"]
    small = ["model=dryrun", "training=dryrun"]
    evaluate = [*train, "mode=evaluate", "checkpoint=runs/dry", "training.eval_batches=1"]
    subprocess.run([*train, *small, "name=dry"], cwd=project, check=True, capture_output=True)
    rows = []
    for name, ours, floor, floor_name, limit in (
        ("`--cfg job`", [*train, "--cfg", "job"], show, "empty Hydra app `--cfg job`", 1.2),
        ("`--cfg job`", [*train, "--cfg", "job"], alike, "an empty app with this conf/", 1.0),
        ("`--help`", [*train, "--help"], [*app, "--help"], "empty Hydra app `--help`", 1.5),
        ("a mistyped key", [*train, "training.optim.lrr=1"], show, "empty app `--cfg job`", 1.8),
        ("a wrong type", [*train, "training.lr=fast"], show, "empty app `--cfg job`", 2.5),
        ("a negative rate", [*train, "training.lr=-1"], show, "empty app `--cfg job`", 2.5),
        ("`mode=explain`", [*train, "mode=explain"], show, "empty app `--cfg job`", 3.0),
        ("`mode=check`", [*train, "mode=check"], torch, '`python -c "import torch"`', 3.0),
        ("`mode=evaluate`", evaluate, torch, '`python -c "import torch"`', 3.0),
        ("a dryrun, whole process", [*train, *small], torch, '`python -c "import torch"`', 2.8),
    ):
        rows.append(f"| {name} | {ratio(ours, floor, project, empty)} | {floor_name} | {limit} x |")
        print(rows[-1], flush=True)
    (project / "app.py").unlink()

    for name, ours, floor, there, floor_name, limit in (
        ("`--cfg job`, vision", [*train, "--cfg", "job"], show, empty, "empty Hydra app's", 1.8),
        ("a dryrun, vision", [*train, *small], torch, empty, '`python -c "import torch"`', 2.8),
    ):
        rows.append(f"| {name} | {ratio(ours, floor, digits, there)} | {floor_name} | {limit} x |")
        print(rows[-1], flush=True)

    seeds = range(1, 11)
    grid = [*train, "--multirun", *small, f"training.seed={','.join(map(str, seeds))}"]
    alone = "; ".join(" ".join([*train, *small, f"training.seed={seed}"]) for seed in seeds)
    figures = ratio(grid, ["sh", "-c", alone], project, project, pairs=3)
    rows.append(f"| a grid of ten dryruns | {figures} | ten commands | 0.5 x |")
    print(rows[-1], flush=True)

    clone = folder / "template"  # committed files alone, as a user's address would give
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    rendered = [file.relative_to(project) for file in project.rglob("*") if file.is_file()]
    files = [file for file in rendered if file.parts[0] != "runs"]
    for kind, names in (
        ("in the same folders", files),
        ("in one folder", [Path(f"file{i}.txt") for i in range(len(files))]),
    ):
        trivial = folder / f"trivial {kind}"
        write_trivial(trivial, names)
        figures = ratio(copy(clone, folder / "a"), copy(trivial, folder / "b"), folder, folder)
        floor_name = f"{len(files)} one-line files {kind}, one question"
        rows.append(f"| rendering | {figures} | {floor_name} | 1.3 x |")
        print(rows[-1], flush=True)

    old, plain = folder / "living", folder / "plain"
    preset = "conf/training/fastrun.yaml"
    answers = "template/{{ _copier_conf.answers_file }}.jinja"
    trivial = folder / "trivial in the same folders"
    (trivial / "template" / ".copier-answers.yml").unlink()
    (trivial / answers).write_text("{{ _copier_answers | to_nice_yaml }}")
    git(trivial, "add", "-Af")
    git(trivial, "commit", "-qm", "An update needs the answers")
    commands = living(clone, old, preset), living(trivial, plain, preset)
    figures = ratio(*commands, old, plain)
    rows.append(f"| an update | {figures} | {len(files)} one-line files, the same | 2 x |")
    print(rows[-1], flush=True)

    start = time.perf_counter()
    subprocess.run(
        [*train, "model=tiny", "training=fastrun", "name=tiny"],
        cwd=project,
        check=True,
        capture_output=True,
    )
    took = time.perf_counter() - start
    evaluate = [*train, "mode=evaluate", "checkpoint=runs/tiny"]
    subprocess.run(evaluate, cwd=project, check=True, capture_output=True)
    (metrics,) = project.glob("runs/tiny/evaluate/*/metrics.json")
    cer = json.loads(metrics.read_text())["cer"]
    tasks = {"speech": project, "vision": digits, "text": texts, "blank": spirals}
    results = [f"| `model=tiny training=fastrun` | {took:.0f} s | 120 s |"]
    results.append(f"| its character error rate, held-out split | {cer:.4f} | 0.02 |")
    chance = random.Random(1)
    for rate, channels in ((8000, 1), (44100, 2)):
        dialled = folder / f"sox{rate}"
        dialled.mkdir()
        said = {}
        for i in range(20):
            keys = "".join(chance.choices(KEYPAD, k=chance.randint(3, 12)))
            dial(keys, dialled / f"{i:02d}.wav", rate, channels)
            said[f"{i:02d}.wav"] = keys
        recognize = [*train, "mode=recognize", "checkpoint=runs/tiny", f"input={dialled}"]
        done = subprocess.run(recognize, cwd=project, check=True, capture_output=True, text=True)
        read = dict(re.findall(r"(\d\d\.wav)  (\S*)\n", done.stdout))
        right = sum(read[name] == keys for name, keys in said.items())
        kind = f"{rate} Hz, {'mono' if channels == 1 else 'stereo'}"
        results.append(f"| strings of keys made by SoX, {kind} | {right} of 20 | 19 of 20 |")
    for row in itertools.chain(
        survival.rows(project),
        searches.rows(),
        seeing.rows(tracked, PYTHON),
        vision.rows(digits, PYTHON),
        *(loop.rows(of_task, task) for task, of_task in tasks.items()),
        *(preflight.rows(of_task, task) for task, of_task in tasks.items()),
        kills(project, 20),
    ):
        results.append(row)
        print(row, flush=True)

    packages = ("hydra-core", "omegaconf", "pydantic", "torch", "copier", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    header = ["| what | ratio | time | floor | of | at most |", "|---|---|---|---|---|---|"]
    text = [
        "# Results",
        "",
        "Written by `make bench`. A ratio is the median of pairs, timed in turn: nine, but three",
        "for the grid and five for a first iteration. Rendering exceeds its limit: Copier compiles",
        "a template for each part of each path.",
        "",
        f"Machine: {machine}. Versions: {versions}.",
        "",
        *header,
        *rows,
        "",
        "| what | measured | limit |",
        "|---|---|---|",
        *results,
        "",
        "What `mode=check fit=true` predicts of a fastrun, and what it took.",
        "",
        *fit.table(fit.TASKS, fit.SIZES),
        "",
        "Files and lines of a rendered project, after formatting (`make weigh`).",
        "",
        *weigh.table()[0],
    ]
    (ROOT / "benchmarks" / "RESULTS.md").write_text("\n".join(text) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
