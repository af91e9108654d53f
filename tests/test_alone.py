"""The engine alone: engine/, conf/ and train.py beside sixty lines of a package."""

import shutil
from pathlib import Path

import pytest

from .commands import Project, Render, signal_group, start, weights

ALONE = Path(__file__).parent / "alone"
LONG = "training.iter_num=60 training.run.eval_every=20 training.run.log_every=1"
LONG += " training.checkpoint.every=4 training.num_workers=0"


@pytest.fixture(scope="module")
def project(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A package with the engine; the YAML of its own model, data and training."""
    rendered, root = render(package="alone"), tmp_path_factory.mktemp("alone") / "root"
    for kept in ("conf", "hydra_plugins", "alone/engine"):
        shutil.copytree(rendered / kept, root / kept)
    shutil.copy(rendered / "train.py", root)
    for file in ALONE.glob("*.py"):
        shutil.copy(file, root / "alone")
    shutil.rmtree(root / "conf/training/optim")
    for group in ("model", "data", "experiment"):
        shutil.rmtree(root / "conf" / group)
        (root / "conf" / group).mkdir()
    (root / "conf/model/base.yaml").write_text("{}\n")
    config = root / "conf/config.yaml"
    config.write_text(config.read_text().replace("data: dialtones", "data: line"))
    line = "kind: line\nheld_out: test\nslope: 3.0\n"
    (root / "conf/data/line.yaml").write_text(line)
    training = root / "conf/training/default.yaml"
    text = training.read_text().replace("metric: cer", "metric: loss")
    text = text[text.index("\nrun:\n") :]
    rows = [row for row in text.splitlines() if "${.optim" not in row and row[:4] != "ema:"]
    training.write_text("\n".join(rows) + "\n")
    return Project(root)


def test_it_trains_is_killed_resumes_and_evaluates(project: Project) -> None:
    lines = [line for file in ALONE.glob("*.py") for line in file.read_text().splitlines()]
    assert sum(map(bool, lines)) <= 60
    project.run(f"python train.py {LONG} name=undisturbed")
    process = start(project, f"{LONG} name=killed", "iteration 30/")
    signal_group(process)
    process.wait()
    again = project.run(f"python train.py {LONG} name=killed").stdout
    assert "continues after iteration" in again
    runs = project.path / "runs"
    assert weights(runs / "killed") == weights(runs / "undisturbed")
    done = project.run("python train.py mode=evaluate checkpoint=runs/killed")
    assert "test split, 100 items: loss" in done.stdout
    assert "mode = recognize: expected one of train, evaluate, check" in (
        project.run("python train.py mode=recognize", status=2).stderr
    )
