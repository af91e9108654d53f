"""A config names values: it runs no code, writes nowhere else, and holds no credential."""

import json
import subprocess
from pathlib import Path

import pytest

from .commands import Project, copy_project, prepared

pytestmark = pytest.mark.task("speech")

SMALL = "model=dryrun training=dryrun"


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Project:
    """A copy of the project, to change."""
    return Project(copy_project(project.path, tmp_path / "project"), task=project.task)


CODE = [
    "+hydra.callbacks.x={_target_:os.getcwd}",
    "+hydra.job_logging.handlers.z={class:my_module.Boom}",
    "+hydra.job_logging.handlers.z={class:logging.FileHandler,filename:conf/evil.py}",
    '+hydra.job_logging.formatters.z={"()":my_module.Boom}',
    "hydra.job_logging.handlers.console.stream=ext://my_module.stream",
    '+hydra.hydra_logging.filters.z={"()":my_module.Boom}',
    "hydra.searchpath=[pkg://my_module]",
    "hydra.job.env_set={PATH:/tmp}",
    "hydra.job.env_copy=[PATH]",
    "hydra.sweeper.params={training.seed:{_target_:os.getcwd}}",
    "hydra.launcher._target_=os.getcwd",
    "hydra/launcher=slurm +slurm.more={x:{_target_:os.getcwd}}",
]
ELSEWHERE = [
    "hydra.run.dir=/tmp/elsewhere",
    "hydra.sweep.dir=/tmp/elsewhere",
    "hydra.sweep.subdir=../elsewhere",
    "hydra.sweep.subdir='${runs_dir}' runs_dir=../elsewhere",
    "hydra.job.name=../elsewhere",
    "hydra.output_subdir=null",
    "hydra.job.chdir=true",
    "runs_dir=conf name=model",
    "runs_dir=conf name=new",
    "runs_dir=conf mode=check",
    "runs_dir=tests name=planted",
]
HARMLESS = [
    "hydra.verbose=true",
    "hydra/job_logging=default",
    "hydra/hydra_logging=disabled",
    "hydra/launcher=local hydra.launcher.at_once=2",
    "eos_token='<s>'",
    "pad_token=0",
    "max_tokens=100",
    "runs_dir='https://example.org/a?page=1'",
]
SECRETS = {
    "+hf_token=s3cr3t": "hf_token",
    "+access_token=s3cr3t": "access_token",
    "+apikey=s3cr3t": "apikey",
    "+model.secret_key=s3cr3t": "model.secret_key",
    "+model={api_key:s3cr3t}": "api_key",
    "+eos_token=hf_s3cr3ts3cr3ts3cr3t": "eos_token",
    "input=hf_s3cr3ts3cr3ts3cr3t": "input",
    "input='http://s3cr3t@host/x'": "input",
    "input=['postgresql://me:s3cr3t@host/x']": "input",
    "input='https://host/x?token=s3cr3t'": "input",
    "+password='${oc.env:HOME}'": "password",
    "input='${oc.env:HF_TOKEN}'": "input",
}


def test_a_command_line_runs_no_code_and_writes_nowhere_else(project: Project) -> None:
    (project.path / "tests" / "planted").mkdir(exist_ok=True)
    (project.path / "tests" / "planted" / "notes.txt").touch()
    commands = [[*SMALL.split(), *extra.split(" ")] for extra in (*CODE, *ELSEWHERE)]
    for command, found in zip(commands, prepared(project, commands), strict=True):
        assert found.startswith("refused"), f"{command}: {found}"
        key = command[2].lstrip("+").partition("=")[0]
        named = "run" if key == "runs_dir" else key.rpartition(".")[0] or "hydra.launcher"
        assert named in found, f"{command}: {found}"
        assert len(found.splitlines()) <= 4, found


def test_what_is_harmless_passes(project: Project) -> None:
    mode = "mode=explain"
    commands = [[*SMALL.split(), mode, *extra.split(" ")] for extra in HARMLESS]
    for command, found in zip(commands, prepared(project, commands), strict=True):
        unknown = "no such key" in found  # which is no credential, but no key either
        assert found == "left 0" or (unknown and "token" in command[-1]), f"{command}: {found}"


def test_credentials_are_refused_wherever_they_stand(project: Project) -> None:
    commands = [[*SMALL.split(), override] for override in SECRETS]
    for name, found in zip(SECRETS.values(), prepared(project, commands), strict=True):
        assert found.startswith(f"refused {name}: a credential"), found
        assert "s3cr3t" not in found


def test_a_file_of_conf_that_names_code_is_refused_by_its_line(copy: Project) -> None:
    """By a run, by mode=check and by the config rules."""
    (copy.path / "conf/experiment/evil.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  job_logging:\n    formatters:\n      z:\n        '()': subprocess.getoutput\n"
    )
    for mode in ("", "mode=check"):
        refused = copy.run(f"python train.py {SMALL} experiment=evil {mode}", status=2).stderr
        assert "hydra.job_logging.formatters.z.() = subprocess.getoutput" in refused
        assert "conf/experiment/evil.yaml:6" in refused
    rules = subprocess.run(
        [copy.python, "-m", "tools.config_rules"], cwd=copy.path, capture_output=True, text=True
    )
    assert rules.returncode == 1
    assert "conf/experiment/evil.yaml:6: option: experiment=evil" in rules.stdout


def test_a_strangers_run_runs_no_code(copy: Project) -> None:
    """What a run recorded names options of today's conf/ and keys of its groups, nothing else."""
    copy.run(f"python train.py {SMALL} name=good runs_dir=dl")
    before = sorted(copy.path.glob("dl/**/*"))
    said = copy.run("python train.py mode=evaluate checkpoint=dl/good name=again").stdout
    assert "written to runs/evaluate/again" in said, "nothing is written to a run elsewhere"
    assert (copy.path / "runs/evaluate/again/metrics.json").is_file()
    assert sorted(copy.path.glob("dl/**/*")) == before

    run = copy.path / "dl" / "good"
    (run / "m.yaml").write_text(
        "# @package _global_\ndefaults: [/model/dryrun@model, _self_]\n"
        "hydra: {callbacks: {x: {_target_: torch.utils.collect_env.run, command: id > PWNED}}}\n"
    )
    recorded = (run / "overrides.yaml").read_text()
    evaluate = ["mode=evaluate", "checkpoint=dl/good"]
    for option in ("model=../../dl/good/m", "model@hydra.callbacks=dryrun", "model/../x=dryrun"):
        (run / "overrides.yaml").write_text(recorded.replace("model=dryrun", option))
        (found,) = prepared(copy, [evaluate])
        assert f"refused dl/good/overrides.yaml: it recorded {option}" in found
    for ignored in ("hydra.run.dir=/tmp/x", "+hydra.callbacks.x={_target_: os.getcwd}"):
        (run / "overrides.yaml").write_text(f"{recorded}- '{ignored}'\n")
        (found,) = prepared(copy, [evaluate])
        assert found == "ran model=dryrun mode=evaluate checkpoint=dl/good"
    assert not (copy.path / "PWNED").exists()


def test_text_stays_as_it_was_typed(project: Project) -> None:
    names = ["7e12345", "20261125", "true", "1_000"]
    flags = ["--cfg", "job", "--resolve"]
    commands = [[*flags, f"name={name}", f"checkpoint={name}", "training.seed=7"] for name in names]
    for name, found in zip(names, prepared(project, commands), strict=True):
        assert found.endswith(f"name='{name}' checkpoint='{name}' training.run.seed=7")
    shown = project.run("python train.py --cfg job --resolve name=7e12345").stdout
    assert "name: '7e12345'" in shown
    explained = project.run("python train.py mode=explain key=name name=7e12345").stdout
    assert "the command line: name=7e12345" in explained


GROUP = '''
from ..engine.types import Section


class Augment(Section):
    """conf/augment/*.yaml."""

    width: int


class Config('''


def test_a_group_of_the_users_own_is_one_of_the_groups(copy: Project) -> None:
    """It is repeated by evaluate, compared, and has a schema."""
    package = copy.path / "my_project"
    types = (package / "config/__init__.py").read_text()
    types = types.replace("\nclass Config(", GROUP).replace(
        "    model: Model\n", "    model: Model\n    augment: Augment\n"
    )
    (package / "config/__init__.py").write_text(types)
    main = (copy.path / "conf/config.yaml").read_text()
    (copy.path / "conf/config.yaml").write_text(
        main.replace("  - model: base\n", "  - model: base\n  - augment: none\n")
    )
    folder = copy.path / "conf/augment"
    folder.mkdir()
    (folder / "none.yaml").write_text("width: 0\n")
    (folder / "wide.yaml").write_text("width: 8\n")
    model = (package / "model.py").read_text()
    assert "    encoder = cfg.model.encoder\n" in model
    wider = "    cfg = cfg.model_copy(deep=True)\n"
    wider += '    cfg.model.encoder.__dict__["dim"] += cfg.augment.width\n'
    (package / "model.py").write_text(model.replace("    encoder =", f"{wider}    encoder =", 1))
    copy.run(f"python train.py {SMALL} augment=wide name=wide")
    said = copy.run("python train.py mode=evaluate checkpoint=runs/wide").stdout
    assert "with model=dryrun augment=wide, as the run recorded" in said
    refused = copy.run("python train.py mode=evaluate checkpoint=runs/wide augment=none", status=2)
    assert "augment.width: then 8, now 0" in refused.stderr
    subprocess.run([copy.python, "-m", "tools.schemas"], cwd=copy.path, check=True)
    assert json.loads((copy.path / ".vscode/schemas/augment.json").read_text())
