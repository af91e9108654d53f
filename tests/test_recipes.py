"""The recipes of docs/own-code.md, followed word by word."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

from .commands import ROOT, SMALL, Project, copy_project

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
