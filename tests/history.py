"""Versions of the template to update to, and what people change in a project meanwhile.

Each change works on a copy of this repository, each edit on a rendered project. They hold on to
names that README and design fix, not to the wording of a file, so that the template may move on.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .commands import ROOT, Finished

GIT = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
PACKAGE = "my_project"  # of a project whose questions were answered with their defaults
Work = Callable[[Path], None]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message, "--allow-empty")


def as_github(origin: Path) -> dict[str, str]:
    """Variables with which gh: leads to `origin`, since nothing here may need a network."""
    return {
        # Copier keeps what it has cloned by its address, and tests at one time have several origins
        "COPIER_CACHE_DIR": f"{origin}.cache",
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/org/hydra-ml-template.git",
        "GIT_CONFIG_KEY_1": "user.name",
        "GIT_CONFIG_VALUE_1": "Tester",
        "GIT_CONFIG_KEY_2": "user.email",
        "GIT_CONFIG_VALUE_2": "tester@example.org",
    }


def copier_command(folder: Path, origin: Path, *arguments: str) -> Finished:
    """The real command."""
    return subprocess.run(
        [sys.executable, "-m", "copier", *arguments],
        cwd=folder,
        env=os.environ | as_github(origin),
        capture_output=True,
        text=True,
    )


def copy_template(target: Path) -> None:
    """This template as it stands here, as a repository of its own with the tag v0.1.0."""
    files = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for file in files:
        if (ROOT / file).is_file():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target / file)
    git(target, "init", "-q", "-b", "main")
    commit(target, "Template")
    git(target, "tag", "v0.1.0")


def substitute(file: Path, pattern: str, replacement: str) -> None:
    """Replace the first match; a pattern that is not there is a mistake of these tests."""
    text, count = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{file}: nothing matches {pattern}"
    file.write_text(text)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def remark(file: Path, text: str) -> None:
    """A comment of one line before the first import."""
    substitute(file, r"^(from|import) ", rf"# {text}\n\g<0>")


# What the template may do between two versions ---------------------------------------------------


def package(template: Path) -> Path:
    return template / "template" / "{{ package }}"


def conf(template: Path) -> Path:
    return template / "template" / "conf"


def new_key(template: Path) -> None:
    substitute(
        conf(template) / "training" / "default.yaml.jinja", r"^  seed: .*\n", r"\g<0>  decay: 0.5\n"
    )
    types = package(template) / "engine" / "config.py.jinja"
    substitute(types, r"^    seed: .*\n", r"\g<0>    decay: float\n")


def new_value(template: Path) -> None:
    substitute(conf(template) / "training" / "fastrun.yaml", r"iter_num: \d+", "iter_num: 1234")


def new_preset(template: Path) -> None:
    text = "# Twice the standard training.\ndefaults:\n  - default\n\nrun:\n  iter_num: 200000\n"
    write(conf(template) / "training" / "longrun.yaml", text)


def new_group(template: Path) -> None:
    write(conf(template) / "monitor" / "default.yaml", "# What is watched.\nlevel: 1\n")
    substitute(conf(template) / "config.yaml.jinja", r"^  - _self_", r"  - monitor: default\n\g<0>")
    types = package(template) / "config" / "__init__.py.jinja"
    section = 'class Monitor(Section):\n    """conf/monitor."""\n\n    level: int\n\n\n'
    substitute(types, r"^class Config\b", section + r"\g<0>")
    imported = r"\g<0>from ..engine.types import Section\n"
    substitute(types, r"^from \.\.engine\.config .*\n", imported)
    substitute(types, r"^    training: .*\n", r"\g<0>    monitor: Monitor\n")


def move_module(template: Path, new: str) -> None:
    """Move engine/compose/aliases.py; where it was stays a note, as CONTRIBUTING.md wants it."""
    engine = package(template) / "engine"
    module = new.removesuffix(".py").replace("/", ".")
    old = engine / "compose" / "aliases.py"
    write(engine / new, re.sub(r"^from \.(?=\w)", "from ..compose.", old.read_text(), flags=re.M))
    for file in (template / "template").rglob("*"):
        if file.is_file() and ".py" in file.name:
            text = re.sub(r"\bcompose\.aliases\b", module, file.read_text())
            if file.parent == old.parent:
                text = re.sub(r"^from \.aliases\b", f"from ..{module}", text, flags=re.M)
            file.write_text(text)
    old.write_text(f'"""Moved to {new}."""\n\nfrom ..{module} import *  # noqa: F403\n')


def renamed_module(template: Path) -> None:
    move_module(template, "compose/flat_names.py")


def moved_module(template: Path) -> None:
    move_module(template, "names/flat.py")


def mended_engine(template: Path) -> None:
    remark(package(template) / "engine" / "compose" / "aliases.py", "mended")


def improved_model(template: Path) -> None:
    for model in (template / "template").glob("*/{{ package }}/model.py"):  # of each task
        remark(model, "improved")


def improved_loop(template: Path) -> None:
    loop = package(template) / "training.py.jinja"
    remark(loop, "improved")
    append(loop, '\n\ndef of_the_new_version() -> None:\n    """Nothing yet."""\n')


def retire(template: Path, source: str, rendered: str) -> None:
    """A file goes for newcomers; where it is, _exclude keeps it, as CONTRIBUTING.md wants it."""
    (template / "template" / source).unlink()
    substitute(template / "copier.yml", r"^_exclude:\n", rf'\g<0>  - "/{rendered}"\n')


def removed_file(template: Path) -> None:
    retire(template, ".pre-commit-config.yaml.jinja", ".pre-commit-config.yaml")


def removed_preset(template: Path) -> None:
    retire(template, "conf/training/fullrun.yaml", "conf/training/fullrun.yaml")


def better_example(template: Path) -> None:
    substitute(conf(template) / "experiment" / "quick.yaml", r"iter_num: \d+", "iter_num: 200")


def changed_question(template: Path) -> None:
    settings = template / "copier.yml"
    substitute(settings, r"^    - BSD-3-Clause\n", "")
    substitute(settings, r"(?s)(^trackers:.*?)^  default: \[\]", r"\1  default: [wandb]")


def new_question(template: Path) -> None:
    text = "\ndocker:\n  type: bool\n  help: Will it run in a container?\n  default: true\n"
    append(template / "copier.yml", text)
    name = "{% if docker %}Dockerfile{% endif %}.jinja"
    write(template / "template" / name, "# {{ project_name }}\nFROM python:3.12-slim\n")


def better_readme(template: Path) -> None:
    readme = template / "template" / "README.md.jinja"
    append(readme, "\n## What is new\n\nA section of the template's.\n")


def new_dependency(template: Path) -> None:
    file = template / "template" / "pyproject.toml.jinja"
    substitute(file, r"^dev = \[.*\n", r'\g<0>charts = ["matplotlib>=3.9"]\n')


def new_ci_step(template: Path) -> None:
    workflow = template / "template" / ".github" / "workflows" / "ci.yml"
    substitute(workflow, r"^      - run: make lint\n", r"      - run: make help\n\g<0>")


def new_target(template: Path) -> None:
    makefile = template / "template" / "Makefile.jinja"
    substitute(makefile, r"^clean:", "docs: ## nothing yet\n\t@true\n\nclean:")


CHANGES: dict[str, Work] = {
    work.__name__: work
    for work in (
        new_key,
        new_value,
        new_preset,
        new_group,
        renamed_module,
        moved_module,
        mended_engine,
        improved_model,
        improved_loop,
        removed_file,
        removed_preset,
        better_example,
        changed_question,
        new_question,
        better_readme,
        new_dependency,
        new_ci_step,
        new_target,
    )
}


# What people do in their project -----------------------------------------------------------------


def changed_values(project: Path) -> None:
    substitute(project / "conf" / "model" / "tiny.yaml", r"dim: \d+", "dim: 96")
    substitute(project / "conf" / "training" / "dryrun.yaml", r"batch_size: \d+", "batch_size: 2")


def changed_fastrun(project: Path) -> None:
    substitute(project / "conf" / "training" / "fastrun.yaml", r"iter_num: \d+", "iter_num: 777")


def added_key(project: Path) -> None:
    default = project / "conf" / "training" / "default.yaml"
    substitute(default, r"^ema: .*\n", r"\g<0>momentum_decay: 0.1 # mine\n")
    types = project / PACKAGE / "config" / "training.py"
    substitute(types, r"^    ema: .*\n", r"\g<0>    momentum_decay: float\n")


def key_beside_seed(project: Path) -> None:
    default = project / "conf" / "training" / "default.yaml"
    substitute(default, r"^  seed: .*\n", r"\g<0>  restarts: 3 # mine\n")
    types = project / PACKAGE / "config" / "training.py"
    substitute(
        types, r"^from (\S+) import Training .*\n", r"\g<0>from \1 import Run as EngineRun\n"
    )
    run = "class Run(EngineRun):\n    restarts: int\n\n\n"
    substitute(types, r"^class Training(?s:.*?)\n\n", run + r"\g<0>    run: Run\n")


def own_presets(project: Path) -> None:
    text = "# Mine.\ndefaults:\n  - fastrun\n\noptim:\n  lr: 1e-3\n"
    write(project / "conf" / "training" / "mine.yaml", text)
    write(
        project / "conf" / "model" / "small.yaml", "defaults:\n  - tiny\n\nencoder:\n  layers: 1\n"
    )


def own_longrun(project: Path) -> None:
    """A preset of the same name that the template brings too, later."""
    text = "# Mine: a week.\ndefaults:\n  - default\n\nrun:\n  iter_num: 900000\n"
    write(project / "conf" / "training" / "longrun.yaml", text)


def own_model(project: Path) -> None:
    """The network in a file of its own; model.py only passes it on."""
    model = project / PACKAGE / "model.py"
    write(project / PACKAGE / "own_model.py", '"""My network."""\n' + model.read_text())
    write(model, '"""Mine stands in own_model.py."""\n\nfrom .own_model import *  # noqa: F403\n')


def rewritten_loop(project: Path) -> None:
    text = '''"""My own loop, written from scratch."""


def train(*_: object, **__: object) -> float:
    """Nothing of the template's is left here."""
    print("my loop ran")
    return 0.25
'''
    write(project / PACKAGE / "training.py", text)


def edited_loop(project: Path) -> None:
    """A line in the middle of the loop and a function of one's own."""
    loop = project / PACKAGE / "training.py"
    substitute(loop, r"^( *)scaler\.step\(optimizer\)\n", r"\g<0>\1my_steps.append(1)\n")
    substitute(loop, r"^def ", r"my_steps: list[int] = []\n\n\n\g<0>")


def own_dataset(project: Path) -> None:
    write(project / PACKAGE / "sines.py", '"""My dataset."""\n\nFREQUENCIES = (440.0, 880.0)\n')
    text = "# My tones.\ndefaults:\n  - dialtones\n\nseed: 7\n"
    write(project / "conf" / "data" / "sines.yaml", text)
    substitute(project / "conf" / "config.yaml", r"^  - data: .*", "  - data: sines")


def own_machine(project: Path) -> None:
    write(project / "conf" / "engine" / "mine.yaml", "defaults: [default]\n\nstop_seconds: 30\n")
    substitute(project / "conf" / "config.yaml", r"^  - engine: .*", "  - engine: mine")


def deleted_examples(project: Path) -> None:
    for file in ("experiment/quick.yaml", "experiment/study.yaml", "training/fullrun.yaml"):
        (project / "conf" / file).unlink()
    (project / "AGENTS.md").unlink()


def edited_example(project: Path) -> None:
    substitute(project / "conf" / "experiment" / "quick.yaml", r"iter_num: \d+", "iter_num: 250")
    append(project / "conf" / "training" / "fullrun.yaml", "# not on Mondays\n")


def renamed_preset(project: Path) -> None:
    quick = project / "conf" / "training" / "fastrun.yaml"
    quick.rename(quick.with_name("brisk.yaml"))
    substitute(project / "conf" / "experiment" / "quick.yaml", "fastrun", "brisk")


def own_test(project: Path) -> None:
    text = '"""Mine."""\n\n\ndef test_mine() -> None:\n    assert 1 + 1 == 2\n'
    write(project / "tests" / "test_mine.py", text)


def reformatted_yaml(project: Path) -> None:
    """As a formatter with other habits leaves it: indented by four, without comments."""
    for preset in (project / "conf" / "training").glob("*.yaml"):
        lines = [re.sub(r"(^| )#.*", "", line).rstrip() for line in preset.read_text().splitlines()]
        wider = [re.sub(r"^ +", lambda spaces: spaces[0] * 2, line) for line in lines if line]
        preset.write_text("\n".join(wider) + "\n")


def edited_readme(project: Path) -> None:
    readme = project / "README.md"
    substitute(
        readme, r"\A# .*\n", r"\g<0>\nWe measure whales. Ask Ada before you change the data.\n"
    )
    substitute(readme, r"^## Commands\n", "## What to type\n")


def readme_with_an_end(project: Path) -> None:
    append(project / "README.md", "\n## Thanks\n\nTo the whales.\n")


def own_dependencies(project: Path) -> None:
    pyproject = project / "pyproject.toml"
    substitute(pyproject, r"^dependencies = \[\n", r'\g<0>  "pandas>=2.2",\n')
    append(pyproject, "\n[tool.mine]\nwhales = true\n")


def own_ci_step(project: Path) -> None:
    append(project / ".github" / "workflows" / "ci.yml", "      - run: echo mine\n")


def own_lint_step(project: Path) -> None:
    workflow = project / ".github" / "workflows" / "ci.yml"
    substitute(workflow, r"^      - run: make lint\n", "      - run: make lint format\n")


def own_target(project: Path) -> None:
    append(project / "Makefile", "\nwhales: ## mine\n\t@echo whales\n")


def edited_engine(project: Path) -> None:
    append(project / PACKAGE / "engine" / "compose" / "aliases.py", "\n\nMINE = 1\n")


def ignored_files(project: Path) -> None:
    """What git does not see: results, and this machine's own settings."""
    write(project / "runs" / "old" / "metrics.jsonl", "{}\n")
    write(project / "conf" / "local" / "default.yaml", "# @package _global_\nruns_dir: elsewhere\n")


def hooks_edited(project: Path) -> None:
    append(project / ".pre-commit-config.yaml", "# mine: no hooks on Fridays\n")


EDITS: dict[str, Work] = {
    work.__name__: work
    for work in (
        changed_values,
        changed_fastrun,
        added_key,
        key_beside_seed,
        own_presets,
        own_longrun,
        own_model,
        rewritten_loop,
        edited_loop,
        own_dataset,
        own_machine,
        deleted_examples,
        edited_example,
        renamed_preset,
        own_test,
        reformatted_yaml,
        edited_readme,
        readme_with_an_end,
        own_dependencies,
        own_ci_step,
        own_lint_step,
        own_target,
        edited_engine,
        ignored_files,
        hooks_edited,
    )
}
