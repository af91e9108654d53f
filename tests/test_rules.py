"""The config rules find what is planted, line for line, and leave its look-alikes alone."""

import json
import resource
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .commands import FULL, Project, Render
from .tasks import Task

PLANTED = Path(__file__).parent / "planted"
RULES = [sys.executable, "-m", "tools.config_rules"]
IN_CODE = ("repeated_values", "command_lines", "checkpoints", "scripts", "options")
MARK = "  #!"

# each root's findings on a line of its own; of roots that hold conf/ alone, those of its aliases
ASK = """
import json, sys
from pathlib import Path
from typing import Any
from tools.config_rules import __main__ as rules, conf
for root in map(Path, sys.argv[1:]):
    if (root / "train.py").exists():
        found = rules.findings(root)
    else:
        read = conf.Conf(root)
        found = [*conf.alias_findings(read), *conf.alias_advice(read)]
    print(json.dumps([[*rules.file_and_line(f), f.rule, str(f)] for f in found]))
"""


@dataclass(frozen=True)
class Planted:
    """A file with its marked lines."""

    file: str
    text: str

    @property
    def marked(self) -> list[int]:
        lines = self.text.splitlines()
        return [number for number, line in enumerate(lines, start=1) if line.endswith(MARK)]

    def plant(self, root: Path, after: bool = False) -> int:
        """Write the file, or after what it has; return how many lines stand above."""
        path = root / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        above = path.read_text("utf-8") if after and path.exists() else ""
        path.write_text(above + self.text.replace(MARK, ""), "utf-8")
        return len(above.splitlines())


def corpus(name: str) -> list[Planted]:
    text = (PLANTED / f"{name}.txt").read_text("utf-8")
    files = [part.split("\n", 1) for part in text.split("--- ")[1:]]
    return [Planted(file, text) for file, text in files]


def ask(project: Project, *roots: Path) -> list[list[tuple[str, int, str, str]]]:
    command = [sys.executable, "-c", ASK, *map(str, roots)]
    result = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [[tuple(f) for f in json.loads(line)] for line in result.stdout.splitlines()]


def copied(project: Project, to: Path) -> Path:
    left_out = shutil.ignore_patterns("runs", ".*", "__pycache__")
    return shutil.copytree(project.path, to, ignore=left_out)


@pytest.fixture(scope="module")
def project(render: Render) -> Project:
    """With everything, and called as the corpus calls it."""
    return Project(render(**FULL, project_name="demo"))


@pytest.fixture(scope="module")
def reported(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[int, str]]:
    """By file and line, what is said of a project with all of the corpus but the aliases."""
    root = copied(project, tmp_path_factory.mktemp("planted") / "demo")
    conf = root / "conf" / "model" / "base.yaml"
    text = conf.read_text("utf-8").replace("sample_rate: 16000", "sample_rate: 24000")
    conf.write_text(text.replace("layers: 16", "layers: 12"), "utf-8")
    full = root / "conf" / "training" / "fullrun.yaml"
    full.write_text(full.read_text("utf-8") + "\noptim:\n  grad_clip: 5.0\n", "utf-8")
    for name in IN_CODE:
        for planted in corpus(name):
            planted.plant(root)
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for file, line, rule, text in ask(project, root)[0]:
        if rule != "advice":
            found[file][line] = text
    for breach in json.loads(banned(root)):
        file = Path(breach["filename"]).relative_to(root.resolve()).as_posix()
        found[file][breach["location"]["row"]] = breach["message"]
    return found


def banned(root: Path) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--output-format=json"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("rule", "planted"),
    [pytest.param(name, p, id=f"{name}-{p.file}") for name in IN_CODE for p in corpus(name)],
)
def test_what_is_planted_is_found(
    reported: dict[str, dict[int, str]], rule: str, planted: Planted
) -> None:
    found = reported[planted.file]
    assert sorted(found) == planted.marked, "\n".join(found.values())


def test_nothing_else_is_found(reported: dict[str, dict[int, str]]) -> None:
    files = {planted.file for name in IN_CODE for planted in corpus(name)}
    assert {file: found for file, found in reported.items() if found and file not in files} == {}


def test_aliases(project: Project, tmp_path: Path) -> None:
    """Each in a conf/ of its own: one wrong alias may keep the others from being read."""
    cases, roots, above = corpus("aliases"), [], []
    for number, planted in enumerate(cases):
        roots.append(tmp_path / str(number))
        shutil.copytree(project.path / "conf", roots[-1] / "conf")
        above.append(planted.plant(roots[-1], after=True))
    for planted, skipped, found in zip(cases, above, ask(project, *roots), strict=True):
        lines = {(file, line) for file, line, rule, _ in found if rule == "alias"}
        expected = {(planted.file, skipped + line) for line in planted.marked}
        assert lines == expected, planted


def test_an_alias_is_advised_for_what_experiments_set(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project.path / "conf", root / "conf")
    text = "# @package _global_\nmodel:\n  encoder:\n    dim: 8\ntraining:\n  optim: {lr: 1}\n"
    Planted("conf/experiment/narrow.yaml", text).plant(root)
    [(file, line, rule, said)] = ask(project, root)[0]
    assert (file, line, rule) == ("conf/experiment/narrow.yaml", 4, "advice")
    assert "dim: ${.encoder.dim}" in said


@pytest.mark.parametrize("answers", [FULL, {}], ids=["full", "default"])
def test_a_new_project_keeps_its_rules(render: Render, task: Task, answers: dict[str, Any]) -> None:
    new = Project(render(**answers, task=task.name, project_name="demo"))
    done = new.run("python -m tools.config_rules")
    assert done.stdout == done.stderr == ""


def test_the_rules_take_no_torch_and_little_time(project: Project) -> None:
    command = [sys.executable, "-X", "importtime", *RULES[1:]]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
    assert "torch" not in {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 8  # 2 s mostly


def test_a_breach_is_reported_with_its_place_and_the_way_out(
    project: Project, tmp_path: Path
) -> None:
    root = copied(project, tmp_path / "demo")
    Planted("demo/audio_rate.py", "TARGET_SAMPLE_RATE = 8000\n").plant(root)
    result = subprocess.run(RULES, cwd=root, capture_output=True, text=True)
    assert result.returncode == 1
    what, way_out = result.stdout.splitlines()
    assert what.startswith(
        "demo/audio_rate.py:1: repeated value: TARGET_SAMPLE_RATE = 8000 repeats "
        "model.encoder.sample_rate (conf/model/tiny.yaml:"
    )
    assert way_out.strip().startswith("read cfg.model.encoder.sample_rate")
    assert "Traceback" not in result.stderr


def test_advice_is_printed_and_breaks_no_rule(project: Project, tmp_path: Path) -> None:
    root = copied(project, tmp_path / "demo")
    text = "# @package _global_\nmodel: {encoder: {dim: 12}}\n"
    Planted("conf/experiment/narrow.yaml", text).plant(root)
    done = Project(root).run("python -m tools.config_rules")
    assert "conf/experiment/narrow.yaml:2: advice: model.encoder.dim has no flat" in done.stdout


def test_a_key_that_nothing_reads_is_found(project: Project, tmp_path: Path) -> None:
    root = copied(project, tmp_path / "demo")
    conf, types = root / "conf" / "model" / "base.yaml", root / "demo" / "config" / "model.py"
    above = conf.read_text("utf-8")
    conf.write_text(f"{above}  unused: 3\n", "utf-8")
    text = types.read_text("utf-8")
    typed = "    hop_samples: PositiveInt\n"
    types.write_text(text.replace(typed, f"{typed}    unused: int\n"), "utf-8")
    test = "python -m pytest -q tests/test_dryrun.py -k every_key_is_read"
    done = Project(root).run(test, status=1).stdout
    assert "no code reads these keys" in done
    assert "['model.encoder.unused']" in done, done


READER = """
from .config import Config

def frames(cfg: Config) -> object:
    return cfg.model.encoder.frames
"""


def test_a_key_that_code_reads_and_no_yaml_has_is_found(project: Project, tmp_path: Path) -> None:
    """By mypy, as long as the types have no such key; by the rules once they do."""
    root = copied(project, tmp_path / "demo")
    Planted("demo/reader.py", READER).plant(root)
    mypy = [sys.executable, "-m", "mypy", "demo/reader.py"]
    result = subprocess.run(mypy, cwd=root, capture_output=True, text=True)
    assert 'demo/reader.py:5: error: "Encoder" has no attribute "frames"' in result.stdout
    types = root / "demo" / "config" / "model.py"
    typed = "    hop_samples: PositiveInt\n"
    types.write_text(types.read_text("utf-8").replace(typed, f"{typed}    frames: int\n"), "utf-8")
    result = subprocess.run(mypy, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    result = subprocess.run(RULES, cwd=root, capture_output=True, text=True)
    assert result.returncode == 1
    assert "option: model=base: model: no value for some keys" in result.stdout
    assert "frames: …" in result.stdout


def test_the_corpus_is_large_enough() -> None:
    cases = [planted for name in (*IN_CODE, "aliases") for planted in corpus(name)]
    assert sum(len(planted.marked) for planted in cases) >= 36
    assert sum(not planted.marked for planted in cases) >= 24
