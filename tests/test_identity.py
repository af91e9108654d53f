"""What a run is made of: its data, code and versions, its files, its metric, its record."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from .commands import SMALL, Project, Render, copy_project, weights

pytestmark = pytest.mark.task("speech")

# at a constant rate, so that more iterations are the same run
MADE = (
    f"{SMALL} data=manifest data.valid=data/valid.jsonl data.test=data/test.jsonl "
    "model.encoder.sample_rate=2000 training/optim/scheduler=constant"
)
# many commands in one process, each as train.py begins: torch is imported once
COMMANDS = """
import contextlib, io, json, sys
from pathlib import Path
from my_project.engine.cli import prepare
from my_project.engine.errors import exit_on_user_error
from my_project.project import PROJECT

class Said(io.StringIO):
    def reconfigure(self, **_):  # as standard output has it
        pass

def run(*arguments):
    said, status = Said(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            with exit_on_user_error():
                prepare(list(arguments), Path("conf"), lambda: PROJECT)
        except SystemExit as end:
            status = end.code or 0
    return status, said.getvalue()
"""


def python(project: Project, code: str, *arguments: object, **environment: str) -> str:
    """What a program printed that ran in the project's folder; its errors are an error."""
    done = subprocess.run(
        [project.python, "-c", COMMANDS + code, *map(str, arguments)],
        cwd=project.path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own_copy(project: Project, path: Path) -> Project:
    """A project that a test may edit."""
    return Project(copy_project(project.path, path))


def line(name: str, text: str) -> str:
    return json.dumps({"audio": f"clips/{name}", "text": text}) + "\n"


@pytest.fixture(scope="module")
def made(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with recordings of its own and a run of four iterations that read them."""
    made = own_copy(project, tmp_path_factory.mktemp("made") / "project")
    (made.path / "data" / "clips").mkdir(parents=True)
    for split in ("train", "valid", "test"):
        for i in range(8):
            noise = np.random.default_rng(i).uniform(-0.1, 0.1, 2000)
            soundfile.write(made.path / f"data/clips/{split}{i}.wav", noise, 2000)
        lines = [line(f"{split}{i}.wav", f"ab{'abcdefgh'[i]}") for i in range(8)]
        (made.path / f"data/{split}.jsonl").write_text("".join(lines))
    made.run(f"python train.py {MADE} name=first", OMP_NUM_THREADS="2")
    return made


def test_a_resumed_run_says_what_is_not_as_it_was(made: Project, tmp_path: Path) -> None:
    code = """
import os, shutil
from my_project.engine.compose.validate import Checker
from my_project.engine.checkpoints.files import newest_checkpoint
from my_project.engine.checkpoints.identity import check_identity, identify

train, given, told = Path("data/train.jsonl"), sys.argv[2:], {}
newest = newest_checkpoint(Path("runs/first"))

def note(what, *more, cli=False):
    if cli:
        told[what] = run("mode=check", "name=first", *given, *more)[::-1]
        return
    cfg = Checker(PROJECT).check([*given, *more])
    try:
        told[what] = "\\n".join(check_identity(cfg, newest, identify(PROJECT, cfg))), 0
    except Exception as error:
        told[what] = f"{error.__class__.__name__}: {error}", 2

def change(what, file, data, *more, cli=False):
    file, before = Path(file), Path(file).read_bytes()
    file.write_bytes(data(before))
    note(what, *more, cli=cli)
    file.write_bytes(before)

other = lambda b: b.replace(b"aba", b"bab")
note("nothing", cli=True)
change("text", train, other, cli=True)
change("order", train, lambda b: b"".join(reversed(b.splitlines(keepends=True))))
change("a line less", train, lambda b: b"".join(b.splitlines(keepends=True)[1:]))
change("audio", "data/clips/valid3.wav", lambda b: b[:-9] + bytes(9))
change("length", "data/clips/train3.wav", lambda b: b + bytes(100))
change("test alone", "data/test.jsonl", other)
change("code", "my_project/model.py", lambda b: b + b"# another\\n")
change("forced", train, other, "resume=force")
# staged to another disk: other paths and times, the same files
shutil.move("data", sys.argv[1])
os.symlink(sys.argv[1], "data")
for file in Path(sys.argv[1]).rglob("*"):
    os.utime(file, (1, 1))
note("staged")
Path("data").unlink()
shutil.move(sys.argv[1], "data")
print(json.dumps(told))
"""
    arguments = (tmp_path / "staged", *MADE.split())
    told = json.loads(python(made, code, *arguments, OMP_NUM_THREADS="1"))
    changes = {
        "text": "data.train has changed since: contents of files differ; 9 files then, 9 now",
        "order": "data.train has changed since: names or order of files differ",
        "a line less": "data.train has changed since: numbers of files differ; 9 files then, 8 now",
        "audio": "data.valid has changed since: contents of files differ",
        "length": "data.train has changed since: sizes of files differ",
    }
    for what, words in changes.items():
        said, status = told[what]
        assert status == 2, said
        assert words in said
        assert "resume=force" in said
    lost = "the weights will not be bit-identical to those of an uninterrupted run"
    for what in ("nothing", "test alone", "code", "forced", "staged"):
        said, status = told[what]
        assert status == 0, said
        assert f"threads: then 2, now 1; {lost}" in said
        assert ("code:" in said) == (what == "code")
        assert ("data.train" in said) == (what == "forced")


def test_training_refuses_other_data_and_evaluate_reports_it(made: Project, tmp_path: Path) -> None:
    run = tmp_path / "first"
    shutil.copytree(made.path / "runs/first", run)
    train, test = made.path / "data/train.jsonl", made.path / "data/test.jsonl"
    before = train.read_text(), test.read_text()
    train.write_text(before[0].replace("aba", "bab"))
    test.write_text(before[1].replace("aba", "bab"))
    command = f"python train.py {MADE} training.iter_num=5 runs_dir={tmp_path}"
    try:
        done = made.run(f"{command} name=first", status=2)
        forced = made.run(f"{command} name=first resume=force")
        again = made.run(f"python train.py mode=evaluate checkpoint=runs/first {MADE}")
    finally:
        train.write_text(before[0])
        test.write_text(before[1])
    assert "was trained on other data:\n      data.train has changed since" in done.stderr
    assert "data.train has changed since" in forced.stdout
    assert "continues after iteration 4 of 5" in forced.stdout
    assert json.loads((run / "record.json").read_text())["changed"]
    assert "unlike the run: data.test has changed since: contents" in again.stdout
    assert "data.train" not in again.stdout


def test_weights_that_do_not_fit_name_the_code(made: Project) -> None:
    model = made.path / "my_project" / "model.py"
    before = model.read_text()
    load = """
from my_project.engine.load import load
try:
    load(PROJECT, "runs/first", *sys.argv[1:])
except Exception as error:
    print(type(error).__name__, error)
"""
    model.write_text(before.replace("nn.Linear(dim, symbols + 1)", "nn.Linear(dim, symbols + 2)"))
    assert model.read_text() != before
    try:
        said = python(made, load, *MADE.split()[2:])
    finally:
        model.write_text(before)
    assert said.startswith("UserError runs/first/checkpoints")
    assert "the package's code has changed since then" in said


def test_a_metric_that_is_better_when_higher(project: Project, tmp_path: Path) -> None:
    """The recipe of docs/recipes.md: the best checkpoint is kept, the best job comes first."""
    own = own_copy(project, tmp_path / "project")
    badness = 'sum(row["loss"] for row in rows)'
    for file, old, new in (
        ("evaluation.py", '"cer": float(cer)}', f'"cer": float(cer), "badness": {badness}}}'),
        ("project.py", '"cer": "minimize"}', '"cer": "minimize", "badness": "maximize"}'),
    ):
        path = own.path / "my_project" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    best = "training.objective.metric=badness training.checkpoint.keep_last=1"
    sweep = f"--multirun {SMALL} {best} name=higher training.lr=1e-2,1e-4"
    said = own.run(f"python train.py {sweep} training.warmup_steps=0").stdout
    jobs = own.path / "runs/higher"
    with (jobs / "sweep.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    values = [float(row["badness"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert f"best: runs/higher/{rows[0]['job']}\n" in said
    for row in rows:
        found = {}
        for kept in (jobs / row["job"] / "checkpoints").glob("*/checkpoint.json"):
            about = json.loads(kept.read_text())
            assert about["goal"] == "maximize"
            found[about["progress"]["iteration"]] = about["objective"]
        assert float(row["badness"]) == max(v for v in found.values() if v is not None)
    assert 2 in found, "the loss falls, so the first evaluation is the best"


def test_no_file_beside_the_checkpoints_stops_or_joins_a_run(made: Project, tmp_path: Path) -> None:
    run = tmp_path / "first"
    shutil.copytree(made.path / "runs/first", run)
    checkpoints = run / "checkpoints"
    oldest = min(checkpoints.iterdir())
    shutil.copytree(oldest, checkpoints / "keep-2")
    shutil.copytree(oldest, checkpoints / "iteration-000000099")
    (checkpoints / ".DS_Store").write_text("somebody else's")
    (checkpoints / ".iteration-000000005").mkdir()  # as a kill leaves one
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 5, "split": "tr\xff\xfe\n' + b"[" * 200_000 + b"\n\xe2\x80\xa8\n")
    command = f"python train.py {MADE} training.iter_num=5 runs_dir={tmp_path}"
    done = made.run(f"{command} name=first", OMP_NUM_THREADS="2")
    assert "continues after iteration 4 of 5" in done.stdout
    assert "bit-identical" not in done.stdout
    there = {path.name for path in checkpoints.iterdir()}
    assert there >= {"keep-2", "iteration-000000099", ".DS_Store", "iteration-000000005"}
    assert ".iteration-000000005" not in there
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 5
    find = """
from my_project.engine.checkpoints.files import find_checkpoint
print(find_checkpoint(Path(sys.argv[1])))
"""
    assert python(made, find, checkpoints / "keep-2").strip() == str(checkpoints / "keep-2")
    assert "99" not in python(made, find, run)


def seal(about: Any) -> str:
    """A manifest whose own checksum holds, whatever is in it."""
    rest = {key: value for key, value in about.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, "sha256": digest}, indent=2, ensure_ascii=False) + "\n"


def test_whatever_the_files_of_a_run_hold_is_no_traceback(made: Project, tmp_path: Path) -> None:
    run = tmp_path / "first"
    shutil.copytree(made.path / "runs/first", run)
    newest = max((run / "checkpoints").iterdir())
    about = json.loads((newest / "checkpoint.json").read_text())
    deep = "[" * 200_000
    bomb = "a: &a [x,x]\n" + "".join(
        f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcd", "bcde", strict=True)
    )
    odd: list[Any] = [None, 3, 1e300, "x", [], {}, [[]], {"a": {}}, True]
    manifests = [
        *(seal({k: v for k, v in about.items() if k != key}) for key in about if key != "sha256"),
        *(seal(about | {key: value}) for key in about if key != "sha256" for value in odd[:7]),
        *(seal(about | {"progress": about["progress"] | {"iteration": v}}) for v in odd),
        *(seal(about | {"files": {"weights.safetensors": v}}) for v in odd),
        *(deep, '{"a":' * 900 + "1" + "}" * 900, "", "[]", "null", "\ud800", "9" * 5000, "NaN"),
    ]
    texts = [
        deep,
        "",
        "null",
        "3",
        "- 1",
        "x",
        "{",
        "a: !!bool 3",
        bomb,
        "\x00",
        "a: *b",
        "9" * 5000,
    ]
    texts += [json.dumps({"state": v, "objective": v, "git": v, "earlier": v}) for v in odd]
    texts += [
        json.dumps({"earlier": [{"earlier": [{"began": 3}]}], "data": {"train": 5}}),
        "? " * 99,
    ]
    rows = ["1e400", "9" * 400, "true", "null", '"x"', "[]", "-1", "1e99", "3000000000"]
    files = {
        "checkpoint.json": manifests,
        **dict.fromkeys(("record.json", "config.yaml", "overrides.yaml"), texts),
        "metrics.jsonl": [
            f'{{"step": {value}, "split": "valid", "loss": {other}}}'
            for value in rows
            for other in ("1", value)
        ],
    }
    (tmp_path / "files.json").write_text(json.dumps(files))
    code = """
import traceback
from my_project.engine.compose.validate import Checker
from my_project.engine.errors import UserError
from my_project.engine.checkpoints.files import find_checkpoint
from my_project.engine.report.table import read_run, table_columns
from my_project.engine.checkpoints.resume import (
    check_resume, incompatibilities, recorded_overrides, unlike_the_run
)

root, newest, files = map(Path, sys.argv[1:4])
cfg, told = Checker(PROJECT).check(sys.argv[4:]), []
others = read_run(PROJECT, Path("runs/first"), root)

uses = [
    lambda: incompatibilities(PROJECT, cfg, find_checkpoint(newest), "checkpoint"),
    lambda: incompatibilities(PROJECT, cfg, find_checkpoint(root), "checkpoint"),
    lambda: check_resume(PROJECT, cfg, root),
    lambda: unlike_the_run(PROJECT, cfg, root),
    lambda: recorded_overrides(PROJECT, root, []),
    lambda: list(table_columns([others, read_run(PROJECT, root, root)], set())),
]
for name, texts in json.loads(files.read_text()).items():
    file = newest / name if name == "checkpoint.json" else root / name
    before = file.read_bytes()
    for i, text in enumerate(texts):
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        for use in uses:
            try:
                use()
                told.append((name, ""))
            except UserError as error:
                told.append((name, str(error)))
            except Exception:
                raise SystemExit(f"{name}: {text[:300]}: {traceback.format_exc()}")
        if i % 20 == 0:
            told.append((name, "\\n".join(map(str, run("mode=evaluate", f"checkpoint={newest}")))))
            told.append((name, "\\n".join(map(str, run("mode=report", f"input={root}")))))
    file.write_bytes(before)
print(json.dumps(told))
"""
    told = json.loads(python(made, code, run, newest, tmp_path / "files.json", *MADE.split()))
    assert len(told) > 1000
    said = [text for name, text in told if name == "checkpoint.json"]
    damaged = [text for text in said if "is not as it was written" in text or "format" in text]
    assert len(damaged) >= len(manifests) - 5
    long = [it for it in told if "Traceback" in it[1] or len(it[1].splitlines()) >= 30]
    assert not long, long[0]


def test_runs_of_other_data_and_metrics_are_kept_apart_in_a_report(
    made: Project, tmp_path: Path
) -> None:
    for name in ("cer", "loss", "other"):
        shutil.copytree(made.path / "runs/first", tmp_path / name)
    config = tmp_path / "loss" / "config.yaml"
    config.write_text(config.read_text().replace("metric: cer", "metric: loss"))
    done = made.run(f"python train.py mode=report runs_dir={tmp_path} input={tmp_path}")
    assert "same data" not in done.stderr
    record = tmp_path / "other" / "record.json"
    about = json.loads(record.read_text())
    about["data"]["train"][3] = "0" * 16
    record.write_text(json.dumps(about))
    done = made.run(f"python train.py mode=report runs_dir={tmp_path} input={tmp_path}")
    assert "warning: not all runs were trained on the same data: see the column data" in done.stderr
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["cer"]["best valid/cer"]
    assert rows["loss"]["best valid/loss"]
    assert rows["cer"]["best valid/loss"] == rows["loss"]["best valid/cer"] == ""
    assert rows["cer"]["data"] == rows["loss"]["data"] != rows["other"]["data"]


def test_a_kill_leaves_no_file_of_a_check(project: Project, tmp_path: Path) -> None:
    """Killed where it would delete what it wrote to see whether it may write."""
    code = """
import os, signal
def kill(event, arguments):
    if event == "os.remove":
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
print(run(*sys.argv[1:]))
"""
    arguments = [*SMALL.split(), f"runs_dir={tmp_path}/runs", "name=killed"]
    subprocess.run([project.python, "-c", COMMANDS + code, *arguments], cwd=project.path)
    assert {path.name for path in tmp_path.rglob("*")} <= {"runs", "killed", ".lock"}


def test_a_disk_of_8_kilobytes_is_reported(
    project: Project, small_disk: Callable[[str], Path]
) -> None:
    done = project.run(f"python train.py {SMALL} runs_dir={small_disk('8k')}", status=2)
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 3


IDENTITY = {"GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_CONFIG_NOSYSTEM": "1"}
IDENTITY |= {"GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.org"}
SETTINGS = {
    "colours, prefixes and programs": """
[color]
    ui = always
[core]
    quotePath = false
[diff]
    noprefix = true
    external = false
    context = 0
    relative = true
    renames = copies
[diff "odd"]
    textconv = cat -A
    command = false
[apply]
    whitespace = fix
""",
    "other prefixes": "[diff]\n    mnemonicPrefix = true\n[status]\n    showUntrackedFiles = no\n",
    "line endings": "[core]\n    autocrlf = true\n    safecrlf = true\n",
}


@pytest.fixture(scope="module")
def monorepo(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose folder a/project is a project, all committed."""
    path = tmp_path_factory.mktemp("monorepo")
    folder = path / "a" / "project"
    copy_project(render(slurm=True, task="speech"), folder)
    (folder / "conf/latin.txt").write_bytes("é\n".encode("latin-1"))
    (folder / "my_project/endings.py").write_bytes(b"A = 1\r\nB = 2\r\nC = 3\r\n")
    (folder / ".gitattributes").write_text("*.py diff=odd\n")
    (path / "secret.txt").write_text("nothing yet\n")
    none = IDENTITY | {"GIT_CONFIG_GLOBAL": os.devnull}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", *command], cwd=path, env=os.environ | none, check=True)
    return path


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_recorded_difference_applies_under_any_settings(
    monorepo: Path, tmp_path: Path, settings: str
) -> None:
    (tmp_path / "gitconfig").write_text(settings)
    own = os.environ | IDENTITY | {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    for name in ("first", "again"):
        subprocess.run(["git", "clone", "-q", monorepo, tmp_path / name], env=own, check=True)
    first, again = (Project(tmp_path / name / "a/project") for name in ("first", "again"))
    endings = first.path / "my_project/endings.py"
    endings.write_bytes(endings.read_bytes().replace(b"A = 1", b"A = 4  "))
    (first.path / "conf/latin.txt").write_bytes("éü\n".encode("latin-1"))
    (first.path / "conf/experiment/häns.yaml").write_text("# @package _global_\nname: new\n")
    (first.path / "my_project/new.py").write_text("NEW = 1\n\n")
    (first.path / "tests/test_speech.py").unlink()
    (first.path / "env/site-packages").mkdir(parents=True)
    (first.path / "env/site-packages/big.py").write_text("BIG = 1\n")
    (tmp_path / "first/secret.txt").write_text("password\n")
    (tmp_path / "first/secret.py").write_text("password\n")
    code = """
from my_project.engine.run_dir.code import git_state
state, diff = git_state(PROJECT.root)
Path(sys.argv[1]).write_bytes(diff)
print(state["commit"], len(state["uncommitted"]))
"""
    diff = tmp_path / "it is.diff"
    commit, _ = python(first, code, diff, **own).split()
    assert b"password" not in diff.read_bytes()
    assert b"BIG" not in diff.read_bytes()
    replay = f"git checkout -q {commit} && git apply --whitespace=nowarn '{diff}'"
    subprocess.run(["sh", "-c", replay], cwd=again.path, env=own, check=True)
    changed = ["my_project/endings.py", "conf/latin.txt", "conf/experiment/häns.yaml"]
    for file in (*changed, "my_project/new.py"):
        then, now = ((it.path / file).read_bytes() for it in (first, again))
        if "autocrlf" in settings:  # git writes the user's line endings
            then, now = then.replace(b"\r", b""), now.replace(b"\r", b"")
        assert now == then, file
    assert not (again.path / "tests/test_speech.py").exists()
    listed = subprocess.run(["git", "ls-files", "-o"], cwd=first.path, env=own, capture_output=True)
    assert b"new.py" in listed.stdout, "the user's own index is as it was"


def test_the_recorded_line_reproduces_a_run_of_a_monorepo(monorepo: Path, tmp_path: Path) -> None:
    own = IDENTITY | {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    (tmp_path / "gitconfig").write_text(next(iter(SETTINGS.values())))
    for name in ("first", "again"):
        clone = ["git", "clone", "-q", str(monorepo), str(tmp_path / name)]
        subprocess.run(clone, env=os.environ | own, check=True)
    first, again = (Project(tmp_path / name / "a/project") for name in ("first", "again"))
    new = first.path / "conf/experiment/mine.yaml"
    new.write_text("# @package _global_\ntraining:\n  optim:\n    lr: 3e-3\n")
    (first.path / "conf/latin.txt").write_bytes("éü\n".encode("latin-1"))
    first.run(f"python train.py {SMALL} experiment=mine name=first", 0, **own)
    about = json.loads((first.path / "runs/first/record.json").read_text())
    assert "password" not in (first.path / "runs/first/uncommitted.diff").read_text("latin-1")
    shutil.copytree(first.path / "runs", again.path / "runs")
    line = about["reproduce"].replace("python train.py", f"{first.python} train.py name=again")
    environment = {k: v for k, v in os.environ.items() if k != "RUN_NAME"} | own
    subprocess.run(["sh", "-c", line], cwd=again.path, env=environment, check=True)
    assert weights(again.path / "runs/again") == weights(first.path / "runs/first")
    code = json.loads((again.path / "runs/again/record.json").read_text())["identity"]["code"]
    assert code == about["identity"]["code"]
