"""The speech task: what its example claims to learn, and audio made by SoX."""

import json
import random
from pathlib import Path

import pytest

from .commands import Project, words_of_figure
from .sox import KEYPAD, dial, sox

pytestmark = [pytest.mark.slow, pytest.mark.task("speech")]
SMALL = "model=dryrun training=dryrun"


def test_tiny_reads_the_held_out_split(project: Project, trained: str) -> None:
    project.run(f"python train.py mode=evaluate checkpoint={trained}")
    (metrics,) = (project.path / trained).glob("evaluate/*/metrics.json")
    assert json.loads(metrics.read_text())["cer"] <= 0.02
    words = words_of_figure(project, f"mode=evaluate checkpoint={trained} name=drawn")
    rows = (project.path / trained / "evaluate/drawn/items.jsonl").read_text().splitlines()
    items = [json.loads(row) for row in rows]
    wrong = [item for item in items if item["reference"] != item["hypothesis"]]
    assert words[0].startswith(f"{400 - len(wrong)} of 400 right; the 16 worst")
    for item in wrong[:16]:
        shown = f"✗ {item['hypothesis'] or '(empty)'}", f"  is {item['reference']}"
        assert set(shown) <= set(words)


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


def test_symbols_in_another_order_are_refused(project: Project, dryrun: str) -> None:
    moved = """'data.vocabulary="D23A456B789C*0#1"'"""
    done = project.run(f"python train.py mode=evaluate checkpoint=runs/{dryrun} {moved}", status=2)
    assert "were trained with these in another order" in done.stderr
    assert "data.vocabulary: then 123A456B789C*0#D, now D23A456B789C*0#1" in done.stderr


def test_damaged_audio_is_named(project: Project, tmp_path: Path) -> None:
    noise = ["synth", "20", "whitenoise"]
    whole, half = tmp_path / "a.flac", tmp_path / "half.flac"
    sox("-n", "-r", "8000", str(whole), *noise)
    half.write_bytes(whole.read_bytes()[:9000])
    manifest = tmp_path / "all.jsonl"
    manifest.write_text('{"audio": "half.flac", "text": "yes"}\n')
    other = tmp_path / "other.jsonl"
    other.write_text('{"audio": "a.flac", "text": "yes"}\n')
    data = f"data.train={manifest} data.valid={other} data.test={other}"
    for workers in (0, 1):
        command = f"python train.py {SMALL} data=manifest {data} training.num_workers={workers}"
        done = project.run(command, status=2)
        assert f"{half}: its audio is damaged" in done.stderr


def test_a_text_longer_than_its_audio_is_named(project: Project, tmp_path: Path) -> None:
    noise = ["synth", "0.2", "whitenoise"]
    sox("-n", "-r", "8000", str(tmp_path / "a.wav"), *noise)
    manifest = tmp_path / "all.jsonl"
    manifest.write_text('{"audio": "a.wav", "text": "far too long for a fifth of a second"}\n')
    data = " ".join(f"data.{split}={manifest}" for split in ("train", "valid", "test"))
    done = project.run(f"python train.py {SMALL} data=manifest {data}", status=2)
    assert f"{manifest}:1: 36 symbols, but its audio is only 6 encoder frames" in done.stderr


def test_check_opens_more_audio_files_than_a_run(project: Project, tmp_path: Path) -> None:
    sox("-n", "-r", "8000", str(tmp_path / "a.wav"), "synth", "1", "sine", "440")
    (tmp_path / "b.wav").write_text("no audio")
    lines = ['{"audio": "a.wav", "text": "a"}', '{"audio": "b.wav", "text": "b"}']
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    data = " ".join(f"data.{split}={tmp_path}/all.jsonl" for split in ("train", "valid", "test"))
    once = f"{SMALL} data=manifest {data} data.check_headers=1"
    told = project.run(f"python train.py mode=check {once}", status=2).stderr
    assert f"all.jsonl:2: {tmp_path}/b.wav is not audio" in told


def test_describe_names_the_lines_that_it_leaves_out(project: Project) -> None:
    lines = ['{"audio": "a.wav", "text": "12"}', "{broken", '{"audio": 3, "text": "4"}']
    (project.path / "half.jsonl").write_text("\n".join(lines))
    said = project.run("python train.py mode=describe data=manifest data.train=half.jsonl").stdout
    assert "half.jsonl: 2 lines are left out" in said
    assert "python train.py mode=check data=half" in said
    assert "data.vocabulary: 2 entries" in said
