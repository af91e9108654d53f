"""make guard: changes of what is learned are found where they begin, refactorings are bit-equal."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from .commands import Finished, Project, copy_project
from .history import commit, git, substitute

pytestmark = pytest.mark.task("blank")

# file, what is replaced, by what
Edit = tuple[str, str, str]
MODEL, OPTIM, DATA = "my_project/model.py", "my_project/optim.py", "my_project/data.py"
ADAMW = "conf/training/optim/adamw.yaml"
SCALE = r"class Scale[\s\S]*?(?=class Perceptron)"
LAYERS = r"( +)(self\.layers = .*\n)"

# what the example lacks: a normalization, dropout, augmentation
PREPARED: list[Edit] = [
    (MODEL, r"nn\.GELU\(\)", "nn.LayerNorm(width), nn.GELU()"),
    ("conf/model/tiny.yaml", r"dropout: 0\.0", "dropout: 0.1"),
    (
        DATA,
        r"return self\.features\[index\], (.*)",
        r"noise = np.random.normal(0, 0.01, 2).astype(np.float32)\n"
        r"        return self.features[index] + noise, \1",
    ),
]

# an edit, the first tensor that differs, and the overrides without which the edit has no effect
PLANTED: dict[str, tuple[Edit, str, str]] = {
    "an initializer": (
        (MODEL, LAYERS, r"\1\2\1nn.init.zeros_(self.layers[-1].bias)\n"),
        r"iteration 1: weights, layers\.12\.bias, float32 \[2\]",
        "",
    ),
    "the scale of an initializer": (
        (MODEL, LAYERS, r"\1\2\1self.layers[4].weight.data.mul_(1.001)\n"),
        r"iteration 1: weights, layers\.4\.weight, .*\n.*, 0\.001 of the largest",
        "",
    ),
    "a buffer": (
        (MODEL, "correction=0", "correction=1"),
        r"iteration 1: weights, features\.std, float32 \[2\]",
        "",
    ),
    "the order of two sums": (
        (MODEL, r"\(values - self\.mean\) / self\.std", "values / self.std - self.mean / self.std"),
        r"iteration 1: output of features \(Scale\)",
        "",
    ),
    "the eps of a normalization": (
        (MODEL, r"LayerNorm\(width\)", "LayerNorm(width, eps=1e-6)"),
        r"iteration 1: output of layers\.1 \(LayerNorm\), float32 \[4, 8\]",
        "",
    ),
    "an activation": (
        (MODEL, r"GELU\(\)", 'GELU("tanh")'),
        r"iteration 1: output of layers\.2 \(GELU\)",
        "",
    ),
    "dropout": (
        ("conf/model/tiny.yaml", r"dropout: 0\.1", "dropout: 0.2"),
        r"iteration 1: output of layers\.3 \(Dropout\)",
        "",
    ),
    "a dtype": (
        (MODEL, r"\)\.float\(\)", ").double()"),
        r"REF: iteration 1: output of \(Perceptron\), 0, float32 .*\n.*float64 .*\n +equal as",
        "",
    ),
    "label smoothing": (
        (MODEL, r'reduction="none"', 'label_smoothing=0.01, reduction="none"'),
        r"iteration 1: output of \(Perceptron\), 1, float32 \[4\]",
        "",
    ),
    "the reduction of a loss": (
        (MODEL, r"losses\.sum\(\), len\(losses\)", "losses.mean(), 1"),
        r"iteration 1: loss, float32 \[\]",
        "",
    ),
    "the seed of a worker's item": (
        ("my_project/engine/data/loader.py", r"self\.seed, position", "self.seed + 1, position"),
        r"iteration 1: batch, features, float32 \[4, 2\]",
        "",
    ),
    "the order of the data": (
        ("my_project/engine/data/order.py", r"self\.run\.seed, epoch", "self.run.seed, epoch + 1"),
        r"iteration 1: batch, (features|answers)",
        "",
    ),
    "a validation split": (
        (DATA, r"split\)\]\)", 'split) + 3 * (split == "valid")])'),
        r"evaluation after iteration 2: batch, features",
        "",
    ),
    "the seed of dropout": (
        (
            "my_project/engine/train/session.py",
            "seed, self.now, micro",
            "seed, self.now + 1, micro",
        ),
        r"iteration 1: output of layers\.3 \(Dropout\)",
        "",
    ),
    "an epsilon": (
        (OPTIM, r"betas=betas, fused=True\)}", "betas=betas, eps=1e-7, fused=True)}"),
        r"iteration 1: settings of AdamW, param_groups\.0\.eps, .*\n +1e-08 at REF, 1e-07 now",
        "",
    ),
    "betas": (
        (ADAMW, r"0\.98", "0.99"),
        r"iteration 1: settings of AdamW, param_groups\.0\.betas\.1, .*\n +0\.98 at REF",
        "",
    ),
    "weight decay": (
        (ADAMW, r"weight_decay: 0\.01", "weight_decay: 0.02"),
        r"iteration 1: settings of AdamW, param_groups\.0\.weight_decay, ",
        "",
    ),
    "what decays": (
        (OPTIM, r"ndim >= 2", "ndim >= 1"),
        r"REF: iteration 1: settings of AdamW, param_groups",
        "",
    ),
    "the norm to clip to": (
        (ADAMW, r"grad_clip: 1\.0", "grad_clip: 0.01"),
        r"iteration 1: gradients that AdamW gets, layers\.0\.weight",
        "",
    ),
    "warmup": (
        (OPTIM, r"optim\.lr \* iteration /", "optim.lr * (iteration - 1) /"),
        r"iteration 1: settings of AdamW, param_groups\.0\.lr, .*\n +0\.0001 at REF, 0 now",
        "",
    ),
    "a schedule's off-by-one": (
        (OPTIM, r"\(iteration - scheduler", "(iteration - 1 - scheduler"),
        r"iteration 2: settings of AdamW, param_groups\.0\.lr",
        "",
    ),
    "a model left in evaluation": (
        ("my_project/engine/inference.py", r"    model\.train\(was_training\)\n", ""),
        r"iteration 3: output of layers\.3 \(Dropout\)",
        "",
    ),
    "an evaluation with dropout": (
        ("my_project/engine/inference.py", r"    model\.eval\(\)\n", ""),
        r"evaluation after iteration 2: output of layers\.3 \(Dropout\)",
        "",
    ),
    "a metric": (
        ("my_project/evaluation.py", "prediction != label", "prediction == label"),
        r"evaluation after iteration 2: metrics, error",
        "",
    ),
    "the weight of micro-batches": (
        ("my_project/training.py", r"total\[1\] \+= weight", "total[1] += weight / 2"),
        r"iteration 1: gradients that AdamW gets, layers\.0\.weight",
        "training.run.accumulate=2 training.optim.grad_clip=null",
    ),
    "an average of the weights": (
        (OPTIM, r"\(10 \+ iteration\)", "(11 + iteration)"),
        r"evaluation after iteration 2: weights, layers\.0\.weight, ",
        "training.ema=0.9",
    ),
}

REFACTORINGS: dict[str, list[Edit]] = {
    "a renamed module": [
        (MODEL, r"self\.layers = ", "self.body = "),
        (MODEL, r"self\.layers\(", "self.body("),
    ],
    "an extracted function": [
        (MODEL, r"F\.cross_entropy\((.*)\)\n", r"measure_losses(outputs, answers)\n"),
        (
            MODEL,
            r"(?=class Perceptron)",
            "def measure_losses(outputs: Tensor, answers: Tensor) -> Tensor:\n"
            '    return F.cross_entropy(outputs, answers, reduction="none")\n\n\n',
        ),
    ],
    "methods in another order": [
        (MODEL, r"(    def forward\([\s\S]*?\n\n)(    def inverse[\s\S]*?\n\n)", r"\2\1"),
    ],
    "a wrapper": [
        (
            MODEL,
            r"nn\.Sequential\(\*hidden, (.*)\)\n",
            r"nn.Sequential(nn.Sequential(*hidden), \1)\n",
        ),
    ],
    "a renamed file": [
        ("my_project/training.py", r"\.model import", ".network import"),
        ("my_project/project.py", r"\.model import", ".network import"),
    ],
    "a moved class": [
        (MODEL, SCALE, ""),
        (MODEL, r"(?=from \.config)", "from .scale import Scale\n"),
    ],
    "type hints": [(MODEL, r"    mean: Tensor\n    std: Tensor\n", "")],
    "a list of layers that is split": [
        (
            MODEL,
            r"( +)self\.layers = .*\n",
            r"\1self.hidden = nn.Sequential(*hidden)\n"
            r"\1self.head = nn.Linear(sizes[-2], sizes[-1])\n",
        ),
        (MODEL, r"self\.layers\((.*?\))\)", r"self.head(self.hidden(\1))"),
    ],
    "a module for a function": [
        (MODEL, LAYERS, r'\1\2\1self.losses = nn.CrossEntropyLoss(reduction="none")\n'),
        (MODEL, r"F\.cross_entropy\(outputs, answers, .*\)", "self.losses(outputs, answers)"),
    ],
    "statements in another order": [
        (MODEL, r"( +self\.features, self\.numbers = .*\n)([\s\S]*?self\.layers = .*\n)", r"\2\1"),
    ],
}
# entries of the tables that make test runs; the others are long
QUICK = {"a list of layers that is split"}


def each(table: Mapping[str, object]) -> list[object]:
    """Their names; all but the quick ones are long."""
    return [pytest.param(it, marks=() if it in QUICK else pytest.mark.long) for it in table]


@pytest.fixture(scope="module")
def original(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in git with a single commit."""
    path = copy_project(project.path, tmp_path_factory.mktemp("guard") / "project")
    for file, pattern, replacement in PREPARED:
        substitute(path / file, pattern, replacement)
    git(path, "init", "-q", "-b", "main")
    commit(path, "Original")
    return path


@pytest.fixture
def guarded(original: Path, tmp_path: Path) -> Project:
    """A copy to be edited."""
    return Project(Path(shutil.copytree(original, tmp_path / "project")))


def guard(project: Project, status: int, ref: str = "main", overrides: str = "") -> str:
    """What it prints."""
    done: Finished = subprocess.run(
        [project.python, "-m", "tools.guard"],
        cwd=project.path,
        env=os.environ | {"REF": ref, "OVERRIDES": overrides},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "Traceback" not in said, said
    assert git(project.path, "worktree", "list").count("\n") == 1
    return done.stdout


@pytest.mark.parametrize("name", each(PLANTED))
def test_a_planted_change_is_found_where_it_begins(guarded: Project, name: str) -> None:
    (file, pattern, replacement), expected, overrides = PLANTED[name]
    substitute(guarded.path / file, pattern, replacement)
    said = guard(guarded, 1, overrides=overrides)
    assert "with 1 uncommitted file)" in said
    assert re.search(rf"dryrun: differs\n    {expected}", said), said


@pytest.mark.parametrize("name", each(REFACTORINGS))
def test_a_refactoring_is_bit_equal(guarded: Project, name: str) -> None:
    package = guarded.path / "my_project"
    scale = re.search(
        r"class Scale[\s\S]*?(?=class Perceptron)", (package / "model.py").read_text()
    )
    for file, pattern, replacement in REFACTORINGS[name]:
        substitute(guarded.path / file, pattern, replacement)
    if name == "a moved class" and scale:
        text = f"import torch\nfrom torch import Tensor, nn\n\n{scale[0]}"
        (package / "scale.py").write_text(text)
    if name == "a renamed file":
        (package / "model.py").rename(package / "network.py")
    said = guard(guarded, 0)
    assert re.findall(r"^(\w+): bit-equal", said, re.MULTILINE) == ["dryrun", "fastrun"]


@pytest.mark.long
def test_a_change_within_a_refactoring_is_found_under_both_names(guarded: Project) -> None:
    for edit in (*REFACTORINGS["a renamed module"], PLANTED["the eps of a normalization"][0]):
        substitute(guarded.path / edit[0], *edit[1:])
    commit(guarded.path, "Refactored")
    said = guard(guarded, 1, ref="HEAD^")
    assert "uncommitted" not in said
    found = (
        r"output of layers\.1 \(LayerNorm\), .*\n.*output of body\.1 \(LayerNorm\), .*\n.*differ"
    )
    assert re.search(found, said), said


def test_a_change_that_shows_only_in_the_saved_weights(guarded: Project) -> None:
    """The metrics of both are equal, since the loss is none and the error is coarse."""
    substitute(guarded.path / "my_project/evaluation.py", '"loss": loss', '"loss": 0.0')
    commit(guarded.path, "Coarse metrics")
    substitute(guarded.path / OPTIM, r"\(10 \+ iteration\)", "(10.001 + iteration)")
    said = guard(guarded, 1, overrides="training.ema=0.9")
    where = r"dryrun: differs\n    evaluation after iteration 2: weights, layers\.0\.weight, "
    assert re.search(rf"{where}.*\n    .* values differ, by at most ", said), said


def test_runs_in_which_no_step_is_traced(guarded: Project) -> None:
    """Whatever the spelling of the keys that guard sets too."""
    said = guard(guarded, 2, overrides="mode=check training.devices=1 ++training.run.compile=false")
    assert "The run of REF took no optimizer step that can be traced: python train.py" in said
    assert "expected mode=train in one process" in said
    assert "a quote is not closed" in guard(guarded, 2, overrides="name='x")


def test_what_cannot_be_compared(guarded: Project) -> None:
    assert "REF is empty: expected a branch, tag or commit: make guard REF=main" in guard(
        guarded, 2, ref=""
    )
    for ref in ("--all", "HEAD:train.py"):
        assert f"REF={ref}: no such branch, tag or commit" in guard(guarded, 2, ref=ref)
    git(guarded.path, "checkout", "-q", "--orphan", "empty")
    git(guarded.path, "rm", "-rfq", "--cached", ".")
    git(guarded.path, "commit", "-qm", "Empty", "--allow-empty")
    assert "REF=empty" in (said := guard(guarded, 2, ref="empty"))
    assert "has no train.py" in said


@pytest.mark.long
def test_a_change_that_a_dryrun_is_too_short_for(guarded: Project) -> None:
    substitute(
        guarded.path / OPTIM,
        r"return optim\.lr \* iteration /",
        "return optim.lr * min(iteration, 4) /",
    )
    said = guard(guarded, 1)
    assert "dryrun: bit-equal\nfastrun: differs\n    iteration 5: settings of AdamW, param_" in said


@pytest.mark.long
def test_runs_that_cannot_be_compared(guarded: Project) -> None:
    """Runs that fail, in either, and runs that differ from themselves."""
    model = guarded.path / MODEL
    substitute(model, r"(?=self\.layers = )", "torch.seed()\n        ")
    assert "Two runs of the working tree differ from each other" in guard(guarded, 2)
    commit(guarded.path, "Random")
    git(guarded.path, "checkout", "-q", "HEAD^", "--", MODEL)
    assert "Two runs of REF differ from each other" in guard(guarded, 2, ref="HEAD")
    substitute(guarded.path / "conf/training/dryrun.yaml", "iter_num: 4", "iter_num: four")
    said = guard(guarded, 2)
    assert "The run of the working tree failed: python train.py model=dryrun" in said
    assert "training.run.iter_num" in said
    commit(guarded.path, "Wrong")
    substitute(guarded.path / "conf/training/dryrun.yaml", "iter_num: four", "iter_num: 4")
    assert "The run of REF failed" in guard(guarded, 2, ref="HEAD")


@pytest.mark.long
def test_a_table_that_git_ignores_is_read_in_both(guarded: Project) -> None:
    """By the path that the config has, which is relative to the project."""
    folder = guarded.path / "data"
    folder.mkdir()
    rows = [f"{i},{-i},{'ab'[i % 2]}" for i in range(40)]
    (folder / "own.csv").write_text("\n".join(["x,y,kind", *rows]) + "\n")
    own = "data=table data.train=data/own.csv data.valid=0.2 data.answer=kind"
    own += " data.features=[x,y] data.classes=[a,b] training.eval_every=5 ++training.iter_num=10"
    assert "fastrun: bit-equal" in guard(guarded, 0, overrides=own)


def test_a_folder_without_git(original: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".git")
    plain = Project(Path(shutil.copytree(original, tmp_path / "plain", ignore=ignored)))
    done = subprocess.run(
        [plain.python, "-m", "tools.guard"],
        cwd=plain.path,
        env=os.environ | {"REF": "main"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "There is no git repository here" in done.stdout
