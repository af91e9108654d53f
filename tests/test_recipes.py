"""The recipes of docs/own-code.md, followed word by word."""

import io
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from .commands import ROOT, SMALL, Project, copy_project, signal_group, start, weights

PAGE = ROOT / "docs" / "own-code.md"


def follow(project: Project, heading: str, to: Path) -> Project:
    """A copy of the project to which the recipe's diff was applied."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    assert section, heading
    (diff,) = re.findall(r"^```diff\n(.*?)^```", section[1], re.M | re.S)
    changed = Project(copy_project(project.path, to), task=project.task)
    subprocess.run(["git", "apply"], cwd=changed.path, input=diff, text=True, check=True)
    for command in ("check", "format --check"):
        changed.run(f"python -m ruff {command} .")
    return changed


def first_step(project: Project, name: str, more: str) -> tuple[float, float]:
    """Loss and norm of the gradient of the first iteration."""
    project.run(
        f"python train.py {SMALL} training/optim=sgd data.symbols=[5,60] name={name} {more}"
    )
    row = json.loads((project.path / "runs" / name / "metrics.jsonl").open().readline())
    return row["loss"], row["grad_norm"]


@pytest.mark.task("speech")
def test_a_second_model_family(project: Project, tmp_path: Path) -> None:
    lstm = follow(project, "A second model family", tmp_path / "lstm")
    done = lstm.run("python train.py model=lstm training=dryrun name=lstm")
    assert "iteration 4: best cer" in done.stdout
    lstm.run("python train.py mode=evaluate checkpoint=runs/lstm")
    assert "kind: lstm" in lstm.run("python train.py mode=explain model=lstm").stdout
    assert "model.kind = gru" in lstm.run("python train.py model.kind=gru", status=2).stderr
    lstm.run("python train.py model=dryrun training=dryrun")  # the other one is still there


@pytest.mark.task("speech")
def test_a_loss_over_tokens_is_the_same_however_the_batch_is_divided(
    project: Project, tmp_path: Path
) -> None:
    by_token = follow(project, "A loss over tokens", tmp_path / "tokens")
    whole = first_step(by_token, "whole", "")
    for name, more in {
        "parts": "training.run.accumulate=4",
        "both": "training.devices=2 training.run.accumulate=2",
    }.items():
        assert first_step(by_token, name, more) == pytest.approx(whole, rel=1e-5), name
    # a mean over items is another loss, so lengths do differ
    assert first_step(project, "by-item", "") != pytest.approx(whole, rel=1e-4)


@pytest.mark.task("speech")
def test_an_optimizer(project: Project, tmp_path: Path) -> None:
    nadam = follow(project, "An optimizer or a schedule", tmp_path / "nadam")
    nadam.run("python -m mypy")
    done = nadam.run(f"python train.py {SMALL} training/optim=nadam training.lr=3e-4 name=nadam")
    assert "best cer" in done.stdout
    assert "adamw, muon, nadam, sgd" in nadam.run("python train.py --help").stdout


@pytest.mark.task("speech")
def test_a_group(project: Project, tmp_path: Path) -> None:
    noisy = follow(project, "A group", tmp_path / "group")
    train = "python train.py model=dryrun training=dryrun"
    noisy.run(f"{train} augment=noise name=noisy")
    said = noisy.run("python train.py mode=evaluate checkpoint=runs/noisy").stdout
    assert "with model=dryrun augment=noise, as the run recorded" in said
    said = noisy.run(f"{train} name=noisy training.iter_num=8", status=2).stderr
    assert "augment.noise: then 0.01, now 0.0" in said
    assert re.search(r"augment +noise, none", noisy.run("python train.py --help").stdout)
    said = noisy.run(f"{train} augment=noise augment.noise=-1", status=2).stderr
    assert "augment.noise = -1: expected greater than or equal to 0" in said


def pictures(folder: Path, count: int, files: int) -> None:
    """Parquet files of pictures, each bright where its label is cat."""
    datasets = pytest.importorskip("datasets")
    folder.mkdir(parents=True)
    rows = []
    for i in range(count):
        file = io.BytesIO()
        Image.effect_noise((12, 12), 10).point(lambda v, i=i: v + 100 * (i % 2)).save(file, "PNG")
        rows.append({"image": file.getvalue(), "label": ["dog", "cat"][i % 2]})
    for i in range(files):
        datasets.Dataset.from_list(rows[i::files]).to_parquet(folder / f"{i}.parquet")


@pytest.mark.slow
@pytest.mark.task("vision")
def test_a_stream(project: Project, tmp_path: Path) -> None:
    streaming = follow(project, "A stream", tmp_path / "stream")
    for split, count, files in (("train", 90, 5), ("valid", 20, 2), ("test", 31, 3)):
        pictures(streaming.path / "data" / split, count, files)
    assert "parquet" in streaming.run("python train.py --help").stdout
    run = "model=dryrun training=dryrun data=parquet training.iter_num=40 training.lr=1e-2"
    run += " training.run.eval_every=20 training.run.eval_batches=null training.loader.window=8"
    said = streaming.run(f"python train.py mode=check {run}").stdout
    assert "a batch of each of train, valid, test was read" in said
    streaming.run(f"python train.py {run} name=whole training.num_workers=0")
    process = start(streaming, f"{run} name=killed training.num_workers=2", "iteration 30/")
    signal_group(process)
    process.wait()
    again = streaming.run(f"python train.py {run} name=killed training.num_workers=1").stdout
    assert "continues after iteration" in again
    runs = streaming.path / "runs"
    assert weights(runs / "killed") == weights(runs / "whole")
    streaming.run("python train.py mode=evaluate checkpoint=runs/whole name=test")
    rows = [json.loads(line) for line in (runs / "whole/evaluate/test/items.jsonl").open()]
    assert len({row["item"] for row in rows}) == len(rows) == 31
    assert all(row["prediction"] == row["label"] for row in rows)
    missing = streaming.run(f"python train.py {run} data.train=nothing", status=2).stderr
    assert "data.train = nothing: expected a folder of *.parquet" in missing
    (streaming.path / "data/train/0.parquet").unlink()
    changed = streaming.run(f"python train.py {run} name=killed", status=2).stderr
    assert "data.train has changed since: numbers of files differ; 5 files then, 4 now" in changed


@pytest.mark.task("vision")
def test_a_mode(project: Project, dryrun: str, tmp_path: Path) -> None:
    exporting = follow(project, "A mode", tmp_path / "export")
    assert (
        "python train.py mode=export checkpoint=runs/NAME"
        in exporting.run("python train.py --help").stdout
    )
    run = project.path / "runs" / dryrun
    exporting.run(f"python train.py mode=export checkpoint={run} name=out")
    (exported,) = exporting.path.glob("runs/export/out")
    program = torch.export.load(exported / "model.pt2").module()
    outputs = """
import sys, torch
from my_project.engine.load import load
from my_project.project import PROJECT
model, cfg = load(PROJECT, sys.argv[1])
image = cfg.model.image
pictures = torch.arange(5 * image.channels * image.size**2) % 256
pictures = pictures.view(5, image.channels, image.size, image.size).to(torch.uint8)
torch.save((pictures, model(pictures)), sys.argv[2])
"""
    (exporting.path / "outputs.py").write_text(outputs)
    exporting.run(f"python outputs.py {run} outputs.pt")
    pictures, logits = torch.load(exporting.path / "outputs.pt", weights_only=True)
    torch.testing.assert_close(program(pictures), logits)
