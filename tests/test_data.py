"""Data that cannot be read, splits that share files, datasets that fail or hang."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from .commands import LONG, SMALL, Project, children, copy_project, start

# at the end of a project's data.py: the dataset of a user, with a fault that the environment names
FAULTY = """

class Faulty:
    def __init__(self, items, split):
        self.items, self.split = items, split
        self.fault, _, self.of = os.environ.get("FAULT", "").partition(" ")

    def __len__(self):
        return 0 if self.fault == "empty" and self.split == self.of else len(self.items)

    def __getitem__(self, index):
        if self.split == self.of and index == 1:
            if self.fault == "raise":
                raise ValueError("no such column")
            if self.fault == "hang":
                time.sleep(1000)
        return self.items[index]

    def __getattr__(self, name):
        return getattr(self.items, name)


_open_items = open_items


def open_items(cfg, split):
    return Faulty(_open_items(cfg, split), split)
"""


@pytest.fixture(scope="module")
def faulty(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    copy = copy_project(project.path, tmp_path_factory.mktemp("faulty") / "project")
    (data,) = copy.glob("*/data.py")
    data.write_text(f"import os\nimport time\n{data.read_text()}{FAULTY}")
    return Project(copy, task=project.task)


@pytest.mark.task("speech")
def test_an_empty_split_is_reported_by_check_and_by_a_run(faulty: Project) -> None:
    for command in (f"mode=check {SMALL}", SMALL):
        printed = faulty.run(f"python train.py {command}", status=2, FAULT="empty valid").stderr
        assert "data = dialtones: its split valid is empty" in printed


@pytest.mark.task("speech")
def test_an_error_of_a_dataset_is_reported_with_item_and_line(faulty: Project) -> None:
    check = f"python train.py mode=check {SMALL}"
    printed = faulty.run(check, status=2, FAULT="raise valid").stderr
    assert "split valid, item valid 1: ValueError: no such column" in printed
    assert "data.py:" in printed
    assert 'raise ValueError("no such column")' in printed


@pytest.mark.task("speech")
def test_a_dataset_that_hangs_is_reported_by_check(faulty: Project) -> None:
    check = f"python train.py mode=check {SMALL} engine.loader_seconds=1"
    printed = faulty.run(check, status=2, FAULT="hang test").stderr
    assert "split test, item test 1: Expired: nothing for 1 s" in printed
    assert "time.sleep(1000)" in printed


HANGS = "training.num_workers=1 training.eval_every=1 training.iter_num=4"


@pytest.mark.task("speech")
def test_a_worker_that_hangs_ends_the_run(faulty: Project) -> None:
    command = f"python train.py {SMALL} {HANGS} engine.loader_seconds=2"
    printed = faulty.run(command, status=2, FAULT="hang valid").stderr
    assert "no batch for 2 s (engine.loader_seconds)" in printed
    assert "data worker 0 reads valid 1" in printed


@pytest.mark.task("speech")
@pytest.mark.parametrize("devices", [1, 2])
def test_the_first_signal_ends_a_run_whose_worker_hangs(
    faulty: Project, monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    monkeypatch.setenv("FAULT", "hang valid")
    more = f"{SMALL} {HANGS} training.devices={devices} engine.stop_seconds=1"
    process = start(faulty, more, "iteration 1/")
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "resume with: python train.py" in said
    assert "Traceback" not in said


@pytest.mark.task("speech")
def test_shared_memory_that_is_too_small_is_reported(project: Project) -> None:
    run = f"{project.python} train.py {SMALL} training.num_workers=1 training.batch_size=32"
    script = (
        f"mount -t tmpfs -o size=64k tmpfs /dev/shm && {run} mode=check; echo $?; {run}; echo $?"
    )
    command = ["unshare", "--mount", "sh", "-c", script]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no right to mount")
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=120)
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["2", "2"], done
    assert "training.loader.num_workers = 1: /dev/shm has 0.0" in done.stderr
    assert "unable to allocate shared memory" in done.stderr
    assert done.stderr.count("docker run --shm-size=8g") == 2
    assert "Traceback" not in done.stderr


@pytest.mark.task("speech")
def test_too_few_open_files_are_reported(project: Project) -> None:
    command = (
        f"ulimit -n 70; exec {project.python} train.py mode=check {SMALL} training.num_workers=1"
    )
    done = subprocess.run(["sh", "-c", command], cwd=project.path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "about 88 open files, 70 are allowed" in done.stderr


@pytest.mark.task("speech")
def test_data_workers_of_several_processes_are_forked(project: Project) -> None:
    process = start(
        project, f"{LONG} name=forked training.devices=2 training.num_workers=1", "iteration 3/"
    )
    ranks = children(process.pid, "spawn_main")
    started = {rank: children(rank) for rank in ranks}
    commands = {
        pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in sum(started.values(), ranks)
    }
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert all(started.values())
    for rank, workers in started.items():
        assert all(commands[worker] == commands[rank] for worker in workers), commands


def tone(path: Path, rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.ones((channels, rate)).cumsum(axis=1)).T / 2, rate)


def manifest(path: Path, *entries: tuple[str, str]) -> Path:
    lines = [json.dumps({"audio": a, "text": t}, ensure_ascii=False) + "\n" for a, t in entries]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def of_manifests(train: Path, valid: Path, test: Path | None = None) -> str:
    return f"{SMALL} data=manifest data.train={train} data.valid={valid} data.test={test or valid}"


@pytest.mark.task("speech")
def test_wrong_lines_of_a_manifest_are_reported_one_by_one(
    project: Project, tmp_path: Path
) -> None:
    for name in ("whole", "cut", "stream", "valid"):
        tone(tmp_path / f"{name}.wav")
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 3])
    unknown = whole[:40] + b"\xff\xff\xff\xff" + whole[44:]  # as ffmpeg writes to a pipe
    (tmp_path / "stream.wav").write_bytes(unknown)
    train = manifest(
        tmp_path / "train.jsonl",
        ("whole.wav", "a\u2028b"),
        ("cut.wav", "ab"),
        ("x" * 5000, "ab"),
        ("stream.wav", "ab"),
    )
    train.write_text(train.read_text("utf-8") + "[" * 100_000 + "\n", "utf-8")
    valid = manifest(tmp_path / "valid.jsonl", ("valid.wav", "ab"))
    vocabulary = r"""'data.vocabulary="ab\u2028"'""".replace(r"\u2028", "\u2028")
    printed = project.run(
        f"python train.py {of_manifests(train, valid)} {vocabulary}", status=2
    ).stderr
    assert printed.startswith("3 problems:"), printed
    assert "train.jsonl:2:" in printed
    assert "cut.wav is cut off: it is shorter than its header says" in printed
    assert "train.jsonl:3:" in printed
    assert "characters) does not exist" in printed
    assert "train.jsonl:5: expected" in printed
    assert max(map(len, printed.splitlines())) < 400


@pytest.mark.task("speech")
def test_audio_that_splits_share_and_what_reading_loses_are_reported(
    project: Project, tmp_path: Path
) -> None:
    tone(tmp_path / "a.wav", rate=48000, channels=2)
    tone(tmp_path / "b.wav")
    train = manifest(tmp_path / "train.jsonl", ("a.wav", "a"))
    valid = manifest(tmp_path / "valid.jsonl", ("b.wav", "b"))
    (tmp_path / "linked").symlink_to(tmp_path)
    leak = manifest(tmp_path / "leak.jsonl", ("b.wav", "b"), ("linked/a.wav", "a"))
    shared = f"share 1 files, as {tmp_path}/a.wav; expected splits without common items"
    printed = project.run(f"python train.py {of_manifests(train, leak)}", status=2).stderr
    assert f"data: train and valid {shared}" in printed
    done = project.run(f"python train.py mode=check {of_manifests(train, valid, leak)}", status=2)
    assert f"data: train and test {shared}" in done.stderr
    assert "data: valid and test share 1 files" in done.stdout  # a warning
    notes = (
        "data.train: audio of 48000 Hz is read at 8000 Hz (model.encoder.sample_rate)",
        "data.train: audio of 2 channels is averaged to one",
    )
    said = project.run(f"python train.py mode=check {of_manifests(train, valid)}").stdout
    for note in notes:
        assert said.count(note) == 1, said
    twice = manifest(tmp_path / "twice.jsonl", ("b.wav", "b"), ("b.wav", "bb"))
    opened = f"{of_manifests(twice, train)} data.thorough_headers=1"
    said = project.run(f"python train.py mode=check {opened}").stdout
    assert "data.train: 1 of 2 audio files are opened" in said


def picture(path: Path, size: tuple[int, int] = (200, 180), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert(mode).save(path)


@pytest.mark.task("vision")
def test_folders_that_are_no_classes_are_reported_one_by_one(
    project: Project, tmp_path: Path
) -> None:
    for name in ("train/cat", "train/coffee", "valid/cat", "valid/cofee"):
        picture(tmp_path / name / "a.png")
    data = f"data=image_folder data.classes=[cat,coffee] data.train={tmp_path}/train"
    printed = project.run(
        f"python train.py {SMALL} {data} data.valid={tmp_path}/valid", status=2
    ).stderr
    missing = "no pictures of coffee, which data.classes names"
    assert f"data.valid = {tmp_path}/valid: {missing}" in printed
    assert "the folder cofee is not in data.classes; did you mean coffee?" in printed
    assert f"mv {tmp_path}/valid/cofee {tmp_path}/valid/coffee" in printed


@pytest.mark.task("vision")
def test_what_a_model_does_not_see_of_pictures_is_reported(
    project: Project, tmp_path: Path
) -> None:
    for split in ("train", "valid"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "a.png")
    deep = np.asarray(Image.effect_noise((20, 20), 50)).astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "train/a/deep.png")
    folders = f"data.train={tmp_path}/train data.valid={tmp_path}/valid data.test={tmp_path}/valid"
    data = f"{SMALL} data=image_folder data.classes=[a,b] {folders}"
    for command in ("", "mode=check"):
        said = project.run(f"python train.py {command} {data}").stdout
        assert said.count("data.train: pictures are up to 200 \u00d7 180 in colour") == 1
        assert "the model sees 8 \u00d7 8 in grey" in said
        assert "data.train: 1 pictures of 16 bits are brought to 8" in said


@pytest.mark.task("vision")
def test_values_of_pictures_have_a_range(project: Project) -> None:
    mean = "model.image.channels=3 'model.image.mean=[123.7,116.3,103.5]'"
    printed = project.run(f"python train.py {SMALL} {mean} data.augment=false", status=2).stderr
    assert "model.image.mean" in printed
    assert "data.augment" in printed
    assert "did you mean null?" in printed
