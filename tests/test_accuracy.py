"""The example learns what it claims: model=tiny training=fastrun, then audio made by SoX."""

import json
import random
from pathlib import Path

import pytest

from .conftest import Project
from .sox import KEYPAD, dial

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(project: Project) -> str:
    project.run("python train.py model=tiny training=fastrun name=tiny")
    return "runs/tiny"


def test_tiny_reads_the_held_out_split(project: Project, trained: str) -> None:
    project.run(f"python train.py mode=evaluate checkpoint={trained}")
    (metrics,) = (project.path / trained).glob("evaluate/*/metrics.json")
    assert json.loads(metrics.read_text())["cer"] <= 0.02


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
def test_tiny_reads_what_sox_dialled(
    project: Project, trained: str, tmp_path: Path, rate: int, channels: int
) -> None:
    chance = random.Random(rate)
    said = {}
    for i in range(20):
        keys = "".join(chance.choices(KEYPAD, k=chance.randint(3, 12)))
        suffix = ("wav", "flac", "ogg")[i % 3]
        dial(keys, tmp_path / f"my call ({i:02d})=.{suffix}", rate, channels)
        said[f"my call ({i:02d})=.{suffix}"] = keys
    folder = f"""'input="{tmp_path}"'"""
    done = project.run(f"python train.py mode=recognize checkpoint={trained} {folder}")
    (written,) = (project.path / trained).glob(f"recognize/{project.name(done)}/*.jsonl")
    read = [json.loads(line) for line in written.read_text().splitlines()]
    right = [entry for entry in read if entry["text"] == said[Path(entry["audio"]).name]]
    assert len(read) == 20
    assert len(right) >= 19, read
    # each key is heard where it was dialled: 0.2 s apart
    for entry in right:
        for i, second in enumerate(entry["seconds"]):
            assert second == pytest.approx(0.2 * i + 0.05, abs=0.15)


def test_one_file_with_spaces_in_its_name(project: Project, trained: str, tmp_path: Path) -> None:
    dial("2026", tmp_path / "a (1) = b.wav", 8000, 1)
    path = f"""'input="{tmp_path}/a (1) = b.wav"'"""
    done = project.run(f"python train.py mode=recognize checkpoint={trained} {path}")
    assert "a (1) = b.wav  2026" in done.stdout
