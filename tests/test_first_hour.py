"""The first hour with one's own data: the README's commands, on spoken digits and on photos."""

import json
import os
import random
import re
import resource
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import matplotlib
import pytest
import sklearn
from PIL import Image, ImageEnhance

from .commands import SMALL, Finished, Project, copy_project

pytestmark = pytest.mark.slow

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VOICES = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us+f3", "en-gb+m7"]
SPEEDS = [130, 160, 190]  # words a minute
PITCHES = [35, 50, 65]


def speak_digits(folder: Path) -> None:
    """Write recordings.jsonl: each digit in several voices, speeds and pitches."""
    if not shutil.which("espeak-ng"):
        if "ESPEAK_EXPECTED" in os.environ:
            pytest.fail("espeak-ng is not installed")
        pytest.skip("espeak-ng is not installed")
    clips = folder / "clips"
    clips.mkdir()
    lines = []
    for i, (voice, speed, pitch, word) in enumerate(product(VOICES, SPEEDS, PITCHES, WORDS)):
        how = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(clips / f"{i}.wav")]
        subprocess.run(["espeak-ng", *how, word], check=True)
        lines.append(json.dumps({"audio": f"clips/{i}.wav", "text": word}))
    (folder / "recordings.jsonl").write_text("\n".join(lines))


# photos of packages that the vision task depends on
SAMPLES = Path(matplotlib.get_data_path()) / "sample_data"
IMAGES = Path(sklearn.__file__).parent / "datasets" / "images"
PICTURES_PER_CLASS = 60
# where in which photo each class is: left, upper, right, lower
CLASSES = {
    "flower": (IMAGES / "flower.jpg", (140, 50, 480, 390)),
    "leaves": (IMAGES / "flower.jpg", (0, 0, 170, 427)),
    "pagoda": (IMAGES / "china.jpg", (60, 90, 360, 390)),
    "portrait": (SAMPLES / "grace_hopper.jpg", (130, 30, 400, 340)),
    "trees": (IMAGES / "china.jpg", (350, 250, 640, 427)),
}


def crop_photos(folder: Path) -> None:
    """Write photos/CLASS/: crops of a part of a photo, in which place, size and light vary."""
    chance = random.Random(1)
    for name, (source, region) in CLASSES.items():
        (folder / "photos" / name).mkdir(parents=True)
        with Image.open(source) as opened:
            photo = opened.convert("RGB").crop(region)
        for i in range(PICTURES_PER_CLASS):
            side = int(min(photo.size) * chance.uniform(0.4, 0.9))
            left = chance.randint(0, photo.width - side)
            top = chance.randint(0, photo.height - side)
            crop = photo.crop((left, top, left + side, top + side))
            crop = crop.rotate(chance.uniform(-15, 15), Image.Resampling.BILINEAR)
            crop = ImageEnhance.Brightness(crop).enhance(chance.uniform(0.6, 1.4))
            crop = ImageEnhance.Color(crop).enhance(chance.uniform(0.2, 1.4))
            crop.save(folder / "photos" / name / f"{i}.jpg")


# what writes the data that the README names, and whether the metrics are good enough
OWN: dict[str, tuple[Callable[[Path], None], Callable[[dict[str, float]], bool]]] = {
    "speech": (speak_digits, lambda metrics: metrics["cer"] <= 0.02),
    "vision": (crop_photos, lambda metrics: metrics["accuracy"] >= 0.85),
}
CPU_SECONDS = 180


@pytest.fixture(scope="module")
def own(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with data of one's own beside its train.py."""
    copy = copy_project(project.path, tmp_path_factory.mktemp("own") / "project")
    OWN[project.task.name][0](copy)
    return Project(copy, task=project.task)


def readme_commands(project: Project) -> list[str]:
    """The commands of the README's section on data of one's own."""
    text = (project.path / "README.md").read_text()
    section = text.partition("### Your own ")[2].partition("\n\n`")[0]
    return re.findall(r"^    (python train\.py .*?) *(?:#.*)?$", section, re.MULTILINE)


def test_the_readmes_commands_learn_ones_own_data(own: Project) -> None:
    describe, train, evaluate = readme_commands(own)
    for command in (describe, train, evaluate):
        values = [key for key in re.findall(r"(\S+)=", command) if "." in key or key == "name"]
        assert len(values) <= 2, command
    (printed,) = own.run(describe).stdout.splitlines()[-1:]
    assert train.startswith(printed), "it prints the next command"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own.run(train)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < CPU_SECONDS
    name = own.name(own.run(evaluate))
    (metrics,) = own.path.glob(f"runs/*/evaluate/{name}/metrics.json")
    assert OWN[own.task.name][1](json.loads(metrics.read_text()))


# what goes wrong with data of one's own, as a command of the shell
MISTAKES = {
    "speech": r"""
        head -99 recordings.jsonl | sed 's/"two"/"zwölf"/; 3s/clips/klips/; 7s/{/[/' > flawed.jsonl
    """,
    "vision": r"""
        cp -r photos flawed; echo > flawed/flower/0.jpg
        mkdir flawed/few; cp flawed/trees/1.jpg flawed/few
        cp -r photos seen; mv seen/flower seen/flowers; rm seen/trees/*
    """,
}
FIRST = {
    "speech": "data=manifest data.train=flawed.jsonl",
    "vision": "data=image_folder data.train=flawed data.valid=seen",
}
FIX = re.compile(r"(?:^ +|: )((?:python train\.py|mv|sed) .*)", re.MULTILINE)


def shell(project: Project, script: str) -> Finished:
    python = f'python() {{ {shlex.quote(project.python)} "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", python + script], cwd=project.path, capture_output=True, text=True
    )


def test_each_error_of_the_data_prints_the_command_that_fixes_it(own: Project) -> None:
    assert shell(own, MISTAKES[own.task.name]).returncode == 0
    command, followed = f"python train.py {FIRST[own.task.name]}", []
    while (done := shell(own, f"{command} mode=check {SMALL}")).returncode:
        assert "problem" in done.stderr, done.stderr
        fix = FIX.findall(done.stderr)[0]
        assert fix not in followed, done.stderr
        followed.append(fix)
        if fix.startswith("python") and "mode=describe" not in fix:
            command = fix.replace(f" mode=check {SMALL}", "")
            continue
        fixed = shell(own, fix)
        assert fixed.returncode == 0, fixed.stderr
        if "mode=describe" in fix:
            command = fixed.stdout.splitlines()[-1]
    edits = {"speech": "sed", "vision": "mv"}[own.task.name]
    assert {fix.split()[0] for fix in followed} == {"python", edits}
