"""A project in environments of its own: installed from nothing, and on the next Hydra."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from .commands import FULL, ROOT, SMALL, Project, Render, prepared
from .history import as_github, copy_template
from .terminal import Terminal
from .test_trust import CODE

pytestmark = pytest.mark.slow


def clean_environment(tools: Path | None = None) -> dict[str, str]:
    """As in a new terminal: no environment is active; `tools` has commands that are installed."""
    active = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "RUN_NAME", "MAKEFLAGS")
    path = os.pathsep.join(
        part
        for part in os.environ["PATH"].split(os.pathsep)
        if Path(part) != Path(sys.prefix, "bin")
    )
    changed = {
        "PATH": f"{tools}{os.pathsep}{path}" if tools else path,
        "PIP_COMPILE": "0",  # Python compiles modules on import; most are never imported
        "TORCH_BACKEND": "",  # torch from where pip is configured to look; uv looks there too
        "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
        "UV_CONSTRAINT": os.environ.get("PIP_CONSTRAINT", ""),
    }
    return {k: v for k, v in os.environ.items() if k not in active} | changed


def make(folder: Path, target: str) -> str:
    environment = clean_environment()
    done = subprocess.run(
        ["make", target], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def check_warnings(project: Project) -> None:
    """No warning that our code causes, nor Hydra's of version_base; libraries may have theirs."""
    small = "python train.py model=dryrun training=dryrun"
    for command in (
        f"{small} name=warned",
        "python train.py mode=evaluate checkpoint=runs/warned",
        f"{small} --multirun training.seed=1,2",
        "python train.py --cfg job",
        "python train.py --hydra-help",
    ):
        said = project.run(command, PYTHONWARNINGS="always::DeprecationWarning").stderr
        lines = [line for line in said.splitlines() if "Warning" in line]
        ours = (str(project.path), "hydra", "version_base", "omegaconf")
        assert not [line for line in lines if any(word in line for word in ours)], said


def test_no_warning_of_ours_on_the_stable_hydra(render: Render) -> None:
    check_warnings(Project(render(project_name="Stable Hydra")))


@pytest.mark.long
def test_two_commands_do_everything_on_a_fresh_machine(render: Render) -> None:
    project = render(**FULL | {"trackers": []}, project_name="Fresh")
    first = make(project, "dryrun")
    assert re.search(r"\n(GPU 0.*|no NVIDIA or AMD GPU found): torch's build from PyPI, ", first)
    assert re.search(r"^ *(Downloading|Using cached) pydantic-", first, re.MULTILINE)
    assert first.count("\n") < 120, "progress, not hundreds of lines"
    assert "best cer" in first
    assert " passed" in make(project, "test")
    assert (project / ".venv" / "bin" / "python").exists()
    make(project, "lint")
    own = Project(project, str(project / ".venv" / "bin" / "python"))
    search = "python train.py --multirun sweep=optuna model=dryrun training=dryrun"
    assert "best cer" in own.run(f"{search} sweep.n_trials=1").stdout  # with what the answers need
    own.run("python -m pip uninstall -qy optuna")
    told = own.run(search, status=2).stderr
    assert "the package optuna is missing" in told
    assert "pip install -e '.[sweep]'" in told
    assert "page   runs/report.html" in own.run("python train.py mode=report").stdout


def test_the_readmes_first_commands_by_uv(tmp_path: Path) -> None:
    """Typed verbatim; Enter answers each question."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("uv", "uvx"):
        (tools / tool).symlink_to(Path(sys.executable).with_name(tool))
    copy_template(tmp_path / "origin")
    blocks = MarkdownIt().parse((ROOT / "README.md").read_text())
    lines = next(token.content for token in blocks if token.type == "code_block")
    assert lines.startswith("uvx copier copy ")
    environment = clean_environment(tools) | as_github(tmp_path / "origin")
    environment |= {"VIRTUAL_ENV": "", "CONDA_PREFIX": "", "CONDA_DEFAULT_ENV": ""}
    shown = Terminal(["bash", "-euc", lines], tmp_path, 100, prompt="🎤", **environment)
    said = shown.raw.decode()
    assert shown.status == 0, said[-5000:]
    for unasked in ("Python package called", "Who writes it", "Under which license"):
        assert unasked not in said
    for expected in ("uv pip install --python", "best cer", " passed"):
        assert expected in said
    project = tmp_path / "myproj"
    lock = [str(tools / "uv"), "lock", "--quiet"]
    environment = {k: v for k, v in environment.items() if k != "UV_CONSTRAINT"}
    subprocess.run(lock, cwd=project, check=True, env=environment)
    run = [str(tools / "uv"), "run", "--no-sync", "train.py", "--help"]
    done = subprocess.run(run, cwd=project, env=environment, capture_output=True, text=True)
    assert "python train.py" in done.stdout, done.stderr


@pytest.mark.long
def test_the_next_hydra_runs_the_same_project(
    render: Render, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hydra 1.4 over the packages of these tests, and no warning of ours."""
    folder = tmp_path_factory.mktemp("hydra14") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    unconstrained = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    packages = ["hydra-core==1.4.0rc3", "omegaconf>=2.4.0rc1"]
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--pre", *packages],
        check=True,
        env=unconstrained,
    )
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "below.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    project = Project(render(**FULL, project_name="Next Hydra", task="vision"), str(python))
    assert "1.4.0" in project.run("python train.py --version").stdout
    strict = "-W error::DeprecationWarning -m pytest -q -W error::UserWarning"
    done = project.run(f"python {strict}")
    assert " passed" in done.stdout
    check_warnings(project)
    search = "--multirun sweep=optuna sweep.n_trials=2 hydra/launcher=local"
    done = project.run(f"python train.py {search} model=dryrun training=dryrun")
    assert "best: runs/" in done.stdout
    assert "page   runs/report.html" in project.run("python train.py mode=report").stdout

    commands = [[*SMALL.split(), *extra.split(" ")] for extra in CODE if "slurm" not in extra]
    assert all(found.startswith("refused") for found in prepared(project, commands))
    # Hydra's own whitelist refuses once more, should a check of ours miss something
    evil = "+hydra.job_logging.handlers.z={class:torch.utils.collect_env.run,command:'id > PWNED'}"
    unchecked = (
        "import runpy, sys\n"
        "from next_hydra.engine import cli\n"
        "cli.prepare = lambda argv, *_: argv\n"
        f"sys.argv = ['train.py', {evil!r}]\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [str(python), "-c", unchecked], cwd=project.path, capture_output=True, text=True
    )
    assert "execution_whitelist" in done.stderr
    assert not (project.path / "PWNED").exists()
