"""The vision task: what its example claims to learn, and pictures made by ImageMagick."""

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import Finished, Project, table, words_of_figure
from .imagemagick import convert, draw

pytestmark = [pytest.mark.slow, pytest.mark.task("vision")]
SMALL = "model=dryrun training=dryrun"


def recognized(project: Project, run: str, done: Finished) -> list[dict[str, Any]]:
    written = project.path / run / "recognize" / project.name(done) / "recognized.jsonl"
    return [json.loads(line) for line in written.read_text().splitlines()]


def accuracy(project: Project, run: str) -> float:
    done = project.run(f"python train.py mode=evaluate checkpoint={run}")
    metrics = project.path / run / "evaluate" / project.name(done) / "metrics.json"
    return float(json.loads(metrics.read_text())["accuracy"])


def test_tiny_reads_the_held_out_split(project: Project, trained: str) -> None:
    assert accuracy(project, trained) >= 0.97
    words = words_of_figure(project, f"mode=evaluate checkpoint={trained}")
    assert {"recall", "precision", *"0123456789"} <= set(words)


@pytest.mark.long
def test_a_transformer_learns_too(project: Project) -> None:
    project.run("python train.py model=vit_tiny training=fastrun name=vit")
    assert accuracy(project, "runs/vit") >= 0.9


def test_it_reads_print_at_any_size_and_on_any_ground(
    project: Project, trained: str, tmp_path: Path
) -> None:
    """It was not trained on print; docs/data.md says how much of it is read."""
    for i, font in enumerate(("DejaVu-Sans", "DejaVu-Serif")):
        for digit in "0123456789":
            (tmp_path / digit).mkdir(exist_ok=True)
            for dark_on_light in (True, False):
                path = tmp_path / digit / f"a {font} ({dark_on_light})=.png"
                draw(digit, path, font, 30 + 90 * i + 7 * int(digit), dark_on_light)
    recognize = f"mode=recognize checkpoint={trained} 'input=\"{tmp_path}\"'"
    done = project.run(f"python train.py {recognize}")
    read = recognized(project, trained, done)
    assert len(read) == 40
    right = sum(entry["prediction"] == entry["label"] for entry in read)
    assert right >= 28
    assert f"right: {right} of 40" in done.stdout
    words = words_of_figure(project, recognize)
    assert words[0] == f"{right} of 40 right"
    marks = [word[0] for word in words if word[0] in "✓✗"]
    assert marks == ["✗"] * (40 - right) + ["✓"] * right, "wrong ones first"
    wrong = [entry for entry in read if entry["prediction"] != entry["label"]]
    for entry in wrong:
        assert f"{entry['prediction']}, is {entry['label']}" in words
    by_ground = {
        ground: [entry["prediction"] for entry in read if ground in entry["path"]]
        for ground in ("(True)", "(False)")
    }
    same = sum(a == b for a, b in zip(*by_ground.values(), strict=True))
    assert same >= 16, "white on black is read as black on white is"


def test_what_is_odd_or_damaged_is_named_and_the_rest_is_read(
    project: Project, trained: str, tmp_path: Path
) -> None:
    draw("3", three := tmp_path / "three.png", "DejaVu-Sans", 80, True)
    for name, how in {
        "deep.tif": ["-depth", "16"],
        "cmyk.jpg": ["-colorspace", "CMYK"],
        "moves.gif": ["-duplicate", "2"],
        "whole.jpg": [],
        "one.png": ["-resize", "1x1!"],
    }.items():
        convert(str(three), *how, str(tmp_path / name))
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.png").write_text("3")
    done = project.run(f"python train.py mode=recognize checkpoint={trained} input={tmp_path}")
    told = done.stdout + done.stderr
    for name, words in {
        "cut.jpg": "truncated",
        "one.png": "only 1 ",
        "text.png": "not a picture",
        "deep.tif": "16 bits",
        "cmyk.jpg": "CMYK",
        "moves.gif": "has 3 frames",
    }.items():
        assert any(name in line and words in line for line in told.splitlines()), (name, told)
    read = {
        Path(entry["path"]).name: entry["prediction"]
        for entry in recognized(project, trained, done)
    }
    assert read == dict.fromkeys(
        ["cmyk.jpg", "deep.tif", "moves.gif", "three.png", "whole.jpg"], "3"
    )


@pytest.mark.long
def test_pictures_of_ones_own(project: Project, tmp_path: Path) -> None:
    """Squares and discs, a folder for each: learned from files alone."""
    for split in ("train", "valid", "test"):
        for name, shape in {
            "disc": "circle 32,32 32,{}",
            "square": "rectangle {0},{0} 50,50",
        }.items():
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(12):
                shade = f"hsl({30 * i},200,{100 + 40 * (i % 3)})"
                drawn = ["-fill", shade, "-draw", shape.format(6 + i)]
                convert(
                    "-size", "64x64", "xc:black", *drawn, str(tmp_path / split / name / f"{i}.jpg")
                )
    folders = " ".join(f"data.{split}={tmp_path / split}" for split in ("train", "valid", "test"))
    command = f"training=fastrun model=tiny data=image_folder data.classes=[disc,square] {folders}"
    short = "training.iter_num=200 training.optim.scheduler.warmup_steps=20"
    seen = "model.image.size=16 model.image.channels=3"
    project.run(f"python train.py {command} {seen} {short} name=shapes")
    assert accuracy(project, "runs/shapes") >= 0.9
    evaluate = "python train.py mode=evaluate checkpoint=runs/shapes"
    told = project.run(f"{evaluate} data.classes=[square,disc]", status=2).stderr
    assert "data.classes: then ['disc', 'square'], now ['square', 'disc']" in told
    (tmp_path / "train" / "disc" / "3.jpg").write_bytes(b"no picture")
    told = project.run(f"python train.py mode=check {command}", status=2).stderr
    assert f"{tmp_path}/train/disc/3.jpg: not a picture" in told


def test_a_key_of_the_swept_options_alone_is_forced(project: Project) -> None:
    grid = "python train.py --multirun training=dryrun name=heads model=vit_dryrun,vit_tiny"
    refused = project.run(f"{grid} model.heads=2", status=2).stderr
    assert "model.heads=2: only the options that are swept have this key" in refused
    assert "type ++model.heads=2" in refused
    project.run(f"{grid} ++model.heads=2")
    assert {row["state"] for row in table(project.path / "runs/heads")} == {"finished"}
