"""What is rendered, for every combination of answers."""

import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from packaging.requirements import Requirement

from .commands import FULL, NAMED, ROOT, Project, Render
from .tasks import TASKS, Task

NOTHING: dict[str, Any] = {"trackers": [], "slurm": False, "parts": []}
# each answer alone, over NOTHING
ALONE: dict[str, dict[str, Any]] = {
    **{name: {"trackers": [name]} for name in FULL["trackers"]},
    "slurm": {"slurm": True},
    **{name: {"parts": [name]} for name in FULL["parts"]},
}
COMBINATIONS: dict[str, dict[str, Any]] = {
    **{f"{task}-full": {**FULL, "task": task} for task in TASKS},
    **{f"{task}-nothing": {**NOTHING, "task": task} for task in TASKS},
    **{f"{task}-default": {"task": task} for task in TASKS},
    **{name: NOTHING | answers for name, answers in ALONE.items()},
}
# what an answer renders, and the words that only such a project may show
RENDERS = {
    "tensorboard": ("my_project/engine/trackers/tensorboard.py", "tensorboard"),
    "wandb": ("my_project/engine/trackers/wandb.py", "wandb|Weights & Biases"),
    "mlflow": ("my_project/engine/trackers/mlflow.py", "mlflow|mlruns"),
    "slurm": (
        "my_project/engine/distributed/nodes.py",
        r"slurm|\bsbatch |RUN_NODE|first_node|requeue",
    ),
    "report": ("my_project/engine/report/table.py", r"mode=report|report\.html|curves\.png|plotly"),
    "search": ("my_project/engine/sweeps/search.py", r"optuna|n_trials|sweep\.sampler"),
    "rules": ("tools/config_rules/__main__.py", "config.rules|config-ok"),
    "schemas": ("tools/schemas.py", "schema"),
    "finetune": ("my_project/engine/checkpoints/pretrained.py", r"finetune|lr_scale"),
    "streams": ("my_project/engine/data/stream.py", r"batch_tokens|window: |of a stream"),
    "fsdp": ("my_project/engine/train/fsdp.py", r"training\.parallel|parallel: ddp"),
    "renames": ("my_project/engine/compose/renames.py", r"renamed"),
    "fit": ("my_project/engine/fit.py", r"fit=true|fit: |gradient_checkpointing"),
    "guard": ("tools/guard.py", r"\bguard:|make guard|guard\.md|bit-equal"),
    "container": ("Dockerfile", "docker|container"),
}
SHOWN = ("README.md", "AGENTS.md", "Makefile", ".gitignore", ".pre-commit-config.yaml")


def copy_without_trust(target: Path, **answers: Any) -> Path:
    """Rendered without trust, and by the validators' leave: pytest-copie would grant both."""
    answers = NAMED | answers
    copier.run_copy(str(ROOT), target, answers, vcs_ref="HEAD", defaults=True, quiet=True)
    return target


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination(tmp_path: Path, name: str) -> None:
    path = copy_without_trust(tmp_path / "project", **COMBINATIONS[name])
    for file in path.rglob("*"):
        if not file.is_file():
            continue
        text = file.read_text("utf-8")
        assert not re.search(r"\{%|%\}|\{\{ [a-z]|\{#", re.sub(r"\$\{\{.*?\}\}", "", text)), file
        assert not file.name.endswith(".jinja")
        assert "{" not in str(file.relative_to(path))
        assert text.endswith("\n") or not text, f"{file}: no newline at its end"
        assert not text.endswith("\n\n"), f"{file}: an empty last line"
        if file.suffix in (".yaml", ".yml"):
            yaml.safe_load(text)
    tomllib.loads((path / "pyproject.toml").read_text())
    answers = yaml.safe_load((path / ".copier-answers.yml").read_text())
    defaults = yaml.safe_load((path / "conf" / "config.yaml").read_text())["defaults"]
    assert {"tracker": [*answers["trackers"], "none"][0]} in defaults
    rendered = {*answers["trackers"], *answers["parts"], *["slurm"] * answers["slurm"]}
    for answer, (module, words) in RENDERS.items():
        assert (path / module).exists() == (answer in rendered), module
        if answer not in rendered:
            assert shown_lines(path, words) == []
    for command in ("format --check .", "check ."):
        Project(path).run(f"python -m ruff {command}")


def shown_lines(path: Path, words: str) -> list[str]:
    """Lines with these words in what a user reads and types."""
    files = [*(path / name for name in SHOWN), *(path / "conf").rglob("*.*")]
    return [
        f"{file.relative_to(path)}: {line}"
        for file in files
        for line in file.read_text().splitlines()
        if re.search(words, line, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    ("license", "title"),
    [
        ("MIT", "MIT License"),
        ("Apache-2.0", "Apache License"),
        ("BSD-3-Clause", "BSD 3-Clause License"),
        ("none", None),
    ],
)
def test_a_license(tmp_path: Path, license: str, title: str | None) -> None:
    path = copy_without_trust(tmp_path / "project", license=license)
    project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
    assert project.get("license", "none") == license
    file = path / "LICENSE"
    assert (file.read_text().splitlines()[0] if file.exists() else None) == title


@pytest.mark.slow
def test_types_hold_with_everything_off(render: Render) -> None:
    Project(render(**NOTHING)).run("python -m mypy")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("mode=check fit=true", "fit"),
        ("training.gradient_checkpointing=true", "fit"),
        ("training.parallel=fsdp", "fsdp"),
        ("training.finetune.frozen=[head]", "finetune"),
        ("training.loader.batch_tokens=100", "streams"),
    ],
)
def test_a_key_of_a_part_that_was_not_rendered_names_the_part(
    render: Render, override: str, part: str
) -> None:
    refused = Project(render()).run(f"python train.py {override}", status=2).stderr
    assert f"no such key; this project was rendered without {part}" in refused
    assert f"copier update --defaults -d 'parts=[{part}, …]' adds it" in refused


@pytest.mark.parametrize("package", ["a", "z_package_whose_name_is_forty_letters_lo"])
def test_code_is_formatted_whatever_the_packages_name(
    render: Render, package: str, task: Task
) -> None:
    path = render(package=package, task=task.name)
    for command in ("format --check .", "check ."):
        Project(path).run(f"python -m ruff {command}")


@pytest.mark.slow
def test_types_hold(project: Project) -> None:
    project.run("python -m mypy")


def test_nothing_rendered_imports_what_the_project_does_not_declare(project: Project) -> None:
    """And these tests have each of it, in the same range."""
    declared = tomllib.loads((project.path / "pyproject.toml").read_text())
    rendered = declared["project"]["dependencies"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["test"]
    plain = [dependency for dependency in rendered if "python_version>=" not in dependency]
    assert {dependency.partition(";")[0] for dependency in plain} <= set(ours)


def test_the_engine_says_whose_it_is(render: Render) -> None:
    path = render()
    said = (path / "my_project" / "engine" / "__init__.py").read_text()
    assert "Kept by the template: an update merges what you change here." in said
    assert "`my_project/engine/`" in (path / "README.md").read_text()


def test_each_python_gets_a_hydra_that_works_there(render: Render) -> None:
    project = tomllib.loads((render() / "pyproject.toml").read_text())["project"]
    parsed = [Requirement(text) for text in project["dependencies"]]
    hydra = [requirement for requirement in parsed if requirement.name == "hydra-core"]
    for python, works, fails in (("3.13", "1.3.8", "1.3.2"), ("3.14", "1.4.0rc3", "1.3.8")):
        (one,) = [r for r in hydra if r.marker and r.marker.evaluate({"python_version": python})]
        assert one.specifier.contains(works, prereleases=True)
        assert not one.specifier.contains(fails, prereleases=True)


def test_no_lightning_in_a_project(render: Render, task: Task) -> None:
    path = render(project_name="Untouched", task=task.name)
    for file in path.rglob("*"):
        if file.is_file():
            assert "import lightning" not in file.read_text("utf-8")
            assert "pytorch_lightning" not in file.read_text("utf-8")
    assert "lightning" not in (path / "pyproject.toml").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_what_all_projects_share_mentions_no_task(task: str) -> None:
    """Only the overlays do, and what `facts` of copier.yml puts into shared files."""
    shared = [
        file
        for file in (ROOT / "template").rglob("*")
        if file.is_file()
        and not file.relative_to(ROOT / "template").parts[0].startswith(("{{ '.'", "{% if l"))
        and "__pycache__" not in file.parts
    ]
    assert len(shared) > 50
    for file in shared:
        for line in file.read_text("utf-8").splitlines():
            found = re.search(TASKS[task].words, line, re.IGNORECASE)
            names = ("torchvision", "PIL.Image", "wandb.Image")  # of libraries
            assert not found or any(name in line for name in names), f"{file}: {line}"


def test_help_in_make_lists_the_targets(render: Render) -> None:
    done = subprocess.run(["make", "help"], cwd=render(), capture_output=True, text=True)
    assert {"dryrun", "test", "lint"} <= {line.split()[0] for line in done.stdout.splitlines()}


def test_an_sbatch_script_sets_no_hyperparameter(render: Render) -> None:
    scripts = sorted((render(slurm=True) / "scripts").glob("*.sbatch"))
    assert [s.stem for s in scripts] == ["sweep_array", "train", "train_multinode"]
    for script in scripts:
        lines = script.read_text().splitlines()
        *before, last = [line for line in lines if line and not line.startswith("#")]
        for line in before:
            assert re.match(r"export [A-Z_ ]+|[A-Z_]+=|source |jobs=\(|read -r -a job ", line), line
            assert "python" not in line
        # group overrides alone: no dot in any of them
        command = r'exec (srun .*)?python train\.py( --multirun)?( \w+=\w+)* "\$\{?(@|job\[@\])\}?"'
        assert re.fullmatch(command, last), last
        assert not script.stat().st_mode & stat.S_IWOTH
