"""What a large dataset costs before the first iteration: its files are checked and listed."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

MANIFEST, FOLDERS = (50_000, 100_000, 200_000), (25_000, 50_000, 100_000)
TABLE = (50_000, 100_000, 200_000)
SMALL = [sys.executable, "train.py", "model=dryrun", "training=dryrun"]


def write_manifests(folder: Path, count: int) -> list[str]:
    """So many recordings of a fifth of a second, 1,000 in a folder; the overrides for them."""
    audio = io.BytesIO()
    soundfile.write(audio, np.sin(np.arange(1600)) / 2, 8000, format="WAV")
    for split, items in (("train", count), ("valid", 1000)):
        with (folder / f"{split}.jsonl").open("w") as lines:
            for i in range(items):
                file = folder / split / f"{i // 1000}" / f"recording-{i}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(audio.getvalue())
                name = str(file.relative_to(folder))
                lines.write(json.dumps({"audio": name, "text": "yes"}) + "\n")
    splits = {"train": "train", "valid": "valid", "test": "valid"}
    return ["data=manifest", *(f"data.{s}={folder / name}.jsonl" for s, name in splits.items())]


def write_folders(folder: Path, count: int) -> list[str]:
    """So many pictures of ten classes, and the overrides for them."""
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture, "JPEG")
    for split, items in (("train", count), ("valid", 1000)):
        for i in range(items):
            file = folder / split / f"c{i % 10}" / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture.getvalue())
    splits = {"train": "train", "valid": "valid", "test": "valid"}
    classes = ",".join(f"c{i}" for i in range(10))
    data = ["data=image_folder", f"data.classes=[{classes}]"]
    return data + [f"data.{split}={folder / name}" for split, name in splits.items()]


def write_texts(folder: Path, count: int) -> list[str]:
    """So many texts of a kilobyte, and the overrides for them."""
    for split, items in (("train", count), ("valid", 1000)):
        for i in range(items):
            file = folder / split / f"c{i % 1000}" / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{i} words " * 100)
    splits = {"train": "train", "valid": "valid", "test": "valid"}
    return ["data=text_files", *(f"data.{s}={folder / name}" for s, name in splits.items())]


def write_tables(folder: Path, count: int) -> list[str]:
    """So many rows of ten numbers and a class, and the overrides for them."""
    names, rng = [f"c{i}" for i in range(10)], np.random.default_rng(0)
    for split, rows in (("train", count), ("valid", 1000)):
        with (folder / f"{split}.csv").open("w") as lines:
            lines.write(",".join([*names, "answer"]) + "\n")
            for row in rng.uniform(size=(rows, len(names))):
                cells = [f"{it:.6f}" for it in row]
                lines.write(",".join([*cells, "ab"[int(row[0] > 0.5)]]) + "\n")
    splits = {"train": "train", "valid": "valid", "test": "valid"}
    data = ["data=table", f"data.features=[{','.join(names)}]", "data.classes=[a,b]"]
    return data + [f"data.{split}={folder / name}.csv" for split, name in splits.items()]


def cost(project: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and the largest memory in MB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*SMALL, *arguments], cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def rows(project: Path, task: str) -> Iterator[str]:
    """Lines for the table of RESULTS.md: what is added to the same command on embedded data."""
    write, counts = {
        "speech": (write_manifests, MANIFEST),
        "vision": (write_folders, FOLDERS),
        "text": (write_texts, FOLDERS),
        "blank": (write_tables, TABLE),
    }[task]
    kind = {
        "speech": "lines of a manifest",
        "vision": "pictures in folders",
        "text": "texts in folders",
        "blank": "rows of a table",
    }[task]
    floors = {mode: cost(project, mode) for mode in ("mode=train", "mode=check")}
    for count in counts:
        folder = project.with_name(f"{task}{count}")
        folder.mkdir()
        data = write(folder, count)
        for mode, (seconds, memory) in floors.items():
            took, held = cost(project, mode, *data)
            yield (
                f"| {count:,} {kind}, `{mode}`, beyond the embedded data's | "
                f"{took - seconds:.1f} s, {max(0.0, held - memory):.0f} MB | "
                f"{'10 s, 200 MB' if count == counts[-1] else ''} |"
            )
