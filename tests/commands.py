"""Commands run as a user types them, and what they leave behind."""

import ast
import contextlib
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from .preloaded import Preloaded
from .tasks import TASKS, Task

ROOT = Path(__file__).parent.parent
Finished = subprocess.CompletedProcess[str]
Render = Callable[..., Path]
# the default is the folder's name, which pytest chooses
NAMED: dict[str, Any] = {"project_name": "My project"}
# the answers that render everything
FULL: dict[str, Any] = {
    "license": "MIT",
    "trackers": ["tensorboard", "wandb", "mlflow"],
    "slurm": True,
    "parts": [
        "report",
        "search",
        "rules",
        "schemas",
        "streams",
        "finetune",
        "fsdp",
        "renames",
        "fit",
        "guard",
        "container",
    ],
}
PRELOADED = Preloaded()
SMALL = "model=dryrun training=dryrun"
LONG = f"{SMALL} training.iter_num=100000 training.run.eval_every=100000"


class Project:
    """A rendered project; its commands run with the interpreter of these tests, or another."""

    def __init__(
        self, path: Path, python: str = sys.executable, task: Task = TASKS["speech"]
    ) -> None:
        self.path = path
        self.python = python
        self.task = task

    def run(self, command: str, status: int = 0, **environment: str) -> Finished:
        """Run `python train.py …` as it stands in the README.

        It is a fork of PRELOADED, unless PYTHONUNBUFFERED or the like is given: where time counts.
        """
        program, *arguments = shlex.split(command)
        assert program == "python"
        inherited = {k: v for k, v in os.environ.items() if k not in ("RUN_NAME", "SLURM_JOB_ID")}
        result = self.attempt(arguments, inherited | environment)
        said = f"{command}\n{result.stdout}{result.stderr}"
        assert result.returncode == status, said
        assert "Traceback" not in result.stdout + result.stderr, said
        return result

    def attempt(self, arguments: list[str], environment: dict[str, str]) -> Finished:
        """Run `python ARGUMENTS`, whatever comes of it."""
        if self.python == sys.executable and (
            done := PRELOADED.run(arguments, self.path, environment)
        ):
            return done
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
        )

    def name(self, finished: Finished) -> str:
        """The name= that the run's first line printed."""
        match = re.match(r"name=(.+)\n", finished.stdout)
        assert match, finished.stdout
        return match[1]


def copy_project(project: Path, to: Path) -> Path:
    """Copy a rendered project without what was made in it."""
    made = shutil.ignore_patterns("runs", "build", "*cache*")
    return Path(shutil.copytree(project, to, ignore=made))


@contextlib.contextmanager
def broken_code(project: Path) -> Iterator[None]:
    """A project with a syntax error in every file that a run reads."""
    found = [file for kind in ("*.py", "*.yaml") for file in project.rglob(kind)]
    found = [file for file in found if file.relative_to(project).parts[0] != "runs"]
    kept = {file: file.read_bytes() for file in found}
    try:
        for file, content in kept.items():
            file.write_bytes(content + b"\ndef (: [\n")
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


def signal_group(process: "subprocess.Popen[Any]", number: int = signal.SIGKILL) -> None:
    """Signal a session of its own and all that it started; it may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def weights(run: Path) -> str:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return hashlib.sha256((newest / "weights.safetensors").read_bytes()).hexdigest()


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "record.json").read_text()))


def launch(
    project: Project, arguments: str, errors: int = subprocess.STDOUT, **environment: str
) -> "subprocess.Popen[str]":
    """A run in the background, in a session of its own."""
    command = ["train.py", *arguments.split()]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RUN_NAME", "SLURM_JOB_ID")}
    environment = inherited | environment
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": errors}
    if project.python == sys.executable and (
        process := PRELOADED.start(command, project.path, environment, **pipes)
    ):
        return process
    return subprocess.Popen(
        [project.python, *command],
        cwd=project.path,
        env=environment,
        text=True,
        start_new_session=True,
        **pipes,
    )


def start(
    project: Project, arguments: str, until: str, **environment: str
) -> "subprocess.Popen[str]":
    """A run in the background that has printed what is expected."""
    process = launch(project, arguments, subprocess.STDOUT, **environment)
    assert process.stdout
    for line in process.stdout:
        if re.search(until, line):
            return process
    raise AssertionError(f"never printed {until}")


def table(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def jobs(sweep: Path) -> set[str]:
    return {path.parent.name for path in sweep.glob("*/metrics.jsonl")}


def wait_for(condition: "object", seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int, what: str = "") -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", what], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def shown(markdown: str, kind: str) -> str:
    """The text of the first heading or paragraph, as a reader of the page sees it."""
    tokens = MarkdownIt().parse(markdown)
    position = [token.type for token in tokens].index(kind)
    children = tokens[position + 1].children or []
    assert {child.type for child in children} <= {"text"}, "markup where text was given"
    return "".join(child.content for child in children)


# train.py with the words of each figure that it draws on standard output
WORDS_OF_FIGURES = """
import runpy
from matplotlib.figure import Figure
from matplotlib.text import Text
saved = Figure.savefig
def savefig(figure, *args, **options):
    saved(figure, *args, **options)
    print("drawn", [text.get_text() for text in figure.findobj(Text) if text.get_text()])
Figure.savefig = savefig
runpy.run_path("train.py", run_name="__main__")
"""


def words_of_figure(project: Project, arguments: str) -> list[str]:
    """Run train.py; the words of the one figure that it draws, as they stand in it."""
    done = project.run(f"python -c {shlex.quote(WORDS_OF_FIGURES)} {arguments}")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("drawn ")]
    return list(ast.literal_eval(line.removeprefix("drawn ")))


# many command lines in one process, as prepare sees them: what is refused, and what passes
PREPARED = """
import contextlib, io, json, sys
from pathlib import Path
from my_project.engine.cli import prepare
from my_project.engine.errors import UserError
from my_project.project import PROJECT

def outcome(arguments):
    out, err = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            return "ran " + " ".join(prepare(arguments, PROJECT.conf, lambda: PROJECT))
        except UserError as error:
            return "refused " + str(error)
        except SystemExit as leaving:
            return f"left {leaving.code}"

print(json.dumps([outcome(arguments) for arguments in json.load(sys.stdin)]))
"""


def prepared(project: Project, commands: list[list[str]]) -> list[str]:
    package = next(project.path.glob("*/project.py")).parent.name
    done = subprocess.run(
        [project.python, "-c", PREPARED.replace("my_project", package)],
        cwd=project.path,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
