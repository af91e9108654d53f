"""The text task: what its example claims to learn, and text of any size and kind."""

import gzip
import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from .commands import SMALL, Project, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.task("text")]

# tokenizes the training split of the config whose overrides are the arguments
TOKENIZE = """
import resource, sys
from my_project.engine.compose.validate import Checker
from my_project.project import PROJECT
from my_project.tokens import open_tokens

cfg = Checker(PROJECT).check(sys.argv[1:])
import torch  # before: it takes more than the tokens
before = resource.getrusage(resource.RUSAGE_SELF)
tokens = open_tokens(cfg.data, "train")
after = resource.getrusage(resource.RUSAGE_SELF)
seconds, kilobytes = after.ru_utime - before.ru_utime, after.ru_maxrss - before.ru_maxrss
print(tokens.text_bytes, seconds, kilobytes / 1000)
"""


def evaluated(project: Project, run: str, *arguments: str) -> Path:
    """The directory of an evaluation of this run."""
    done = project.run(f"python train.py mode=evaluate checkpoint={run} {' '.join(arguments)}")
    return project.path / run / "evaluate" / project.name(done)


def held_out(project: Project) -> list[Path]:
    """The files of the test split, by the project's own rule."""
    code = """
from my_project.engine.compose.validate import Checker
from my_project.project import PROJECT
from my_project.texts import list_files
print("\\n".join(list_files(Checker(PROJECT).check([]).data, "test")))
"""
    listed = [project.python, "-c", code]
    done = subprocess.run(listed, cwd=project.path, check=True, capture_output=True, text=True)
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.mark.long
def test_tiny_needs_fewer_bits_than_gzip(project: Project, trained: str, tmp_path: Path) -> None:
    """On the same files, each by itself. Three minutes on two cores."""
    texts = [file.read_bytes() for file in held_out(project)]
    size = sum(map(len, texts))
    zipped = 8 * sum(len(gzip.compress(text, 9)) for text in texts) / size
    whole = evaluated(project, trained, "data.items.test=null")
    measured = json.loads((whole / "metrics.json").read_text())["bits_per_byte"]
    rows = [json.loads(line) for line in (whole / "items.jsonl").read_text().splitlines()]
    assert sum(row["bytes"] for row in rows) == size
    print(f"{measured:.3f} bits per byte; gzip -9 {zipped:.3f}")
    assert measured < zipped

    for i, text in enumerate(texts[:5]):
        (tmp_path / f"{i}.txt").write_bytes(text)
    one_by_one = evaluated(project, trained, f"input={tmp_path}") / "files.jsonl"
    lines = [json.loads(line) for line in one_by_one.read_text().splitlines()]
    assert [line["bytes"] for line in lines] == list(map(len, texts[:5]))
    assert all(line["bits_per_byte"] < 4 for line in lines)


def test_the_held_out_files_are_of_the_standard_library(project: Project) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    files = held_out(project)
    assert len(files) > 30
    for file in files:
        assert file.is_relative_to(library)
        assert not {"test", "tests", "site-packages"} & set(file.relative_to(library).parts)


def test_weights_fit_another_context(project: Project, dryrun: str) -> None:
    longer = f"python train.py {SMALL} init=runs/{dryrun} model.context=128"
    assert "init: " in project.run(f"{longer} name=longer").stdout
    told = project.run(f"{longer} model.dim=32 name=wider", status=2).stderr
    assert "model.dim: then 16, now 32" in told


def test_the_same_seed_gives_the_same_text(project: Project, dryrun: str) -> None:
    texts = []
    for name, more in (("a", ""), ("b", ""), ("c", "sampling.seed=2")):
        command = f"python train.py mode=generate checkpoint=runs/{dryrun} name={name} {more}"
        done = project.run(f"{command} 'sampling.prompt=\"def f(x, y):\"' sampling.tokens=100")
        assert "def f(x, y):" in done.stdout
        written = project.path / "runs" / dryrun / "generate" / name / "generated.txt"
        texts.append(written.read_text("utf-8"))
    assert texts[0] == texts[1] != texts[2]


def test_what_cannot_be_used_is_reported(project: Project, dryrun: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_text("Käse", encoding="latin-1")
    generate = f"python train.py mode=generate checkpoint=runs/{dryrun}"
    for command, words in (
        (f"{generate} input={tmp_path / 'blank.txt'}", "blank.txt: no text"),
        (f"{generate} input={tmp_path / 'none.txt'}", "no such file"),
        (f"{generate} sampling.prompt={'a' * 64}", "64 tokens; expected fewer than model.context"),
        (f"python train.py {SMALL} data=text_files data.train={tmp_path}/no", "no such file"),
        (f"python train.py {SMALL} data/tokenizer=file", "tokenizer.json: no such file"),
        (f"python train.py {SMALL} data=hub data.dataset=a:b", "data.dataset = a:b: "),
    ):
        assert words in project.run(command, status=2).stderr
    for i in range(37):
        (tmp_path / f"{i}.txt").write_text("some words " * 20)
    done = project.run(f"python train.py {SMALL} data=text_files data.train={tmp_path} name=few")
    assert "data.train: 1 of 40 files are empty and are left out" in done.stdout


def without(folder: Path, package: str) -> dict[str, str]:
    """The environment of a Python that lacks a package."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None")
    return {"PYTHONPATH": str(folder)}


def test_a_missing_package_is_reported_with_its_extra(project: Project, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": ["a"]}, "added_tokens": []}')
    given = f"data/tokenizer=file data.tokenizer.path={tmp_path / 'tokenizer.json'}"
    for package, extra, overrides in (
        ("datasets", "hub", "data=hub"),
        ("tokenizers", "tokenizers", given),
    ):
        command = f"python train.py {SMALL} {overrides}"
        printed = project.run(command, status=2, **without(tmp_path, package)).stderr
        assert f"the package {package} is missing" in printed
        assert f"pip install -e '.[{extra}]'" in printed


def test_a_dataset_of_hugging_face_is_trained_on(project: Project, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "Short stories"
    rows = [{"story": f"The {i}th king of Käsestadt counts {i * i} stars. " * 5} for i in range(80)]
    stories = datasets.Dataset.from_list(rows)
    datasets.DatasetDict(train=stories, last=stories.select(range(9))).save_to_disk(folder)
    chosen = f"data=hub 'data.dataset=\"{folder}\"' data.field=story data.test=last"
    last = project.run(f"python train.py mode=describe {chosen}").stdout.splitlines()[-1]
    assert last == "python train.py data=Short_stories"
    trained = "data/tokenizer=trained data.tokenizer.vocabulary=300 data.tokenizer.path=runs/b.json"
    refused = project.run(f"python train.py mode=describe {chosen} {trained}", status=2).stderr
    assert "conf/data/Short_stories.yaml exists" in refused
    assert not (project.path / "runs/b.json").exists(), "no tokenizer that the next command refuses"
    project.run(refused.splitlines()[-2].strip())
    command = f"python train.py {SMALL} data=Short_stories name=stories"
    assert "hub-train-" in project.run(command).stdout
    done = project.run("python train.py mode=evaluate checkpoint=runs/stories name=last")
    assert "hub-" not in done.stdout, "the run tokenized it"
    items = project.path / "runs/stories/evaluate/last/items.jsonl"
    size = sum(json.loads(line)["bytes"] for line in items.read_text().splitlines())
    assert size == pytest.approx(sum(len(row["story"].encode()) for row in rows[:9]))
    (project.path / "conf/data/Short_stories.yaml").unlink()  # others share the project


def repeated(folder: Path, text: bytes, megabytes: int) -> list[str]:
    """A folder of documents, the same again and again, and the overrides that tokenize it."""
    folder.mkdir()
    for i in range(megabytes * 10**6 // len(text) + 1):
        (folder / f"{i}.txt").write_bytes(text)
    splits = [f"data.{split}={folder}" for split in ("train", "valid", "test")]
    return ["data=text_files", *splits, f"data.cache={folder}.cache"]


@pytest.mark.long
def test_a_gigabyte_is_tokenized_in_linear_time_and_bounded_memory(
    project: Project, tmp_path: Path
) -> None:
    library = b"".join(file.read_bytes() for file in held_out(project))
    seconds, memory = {}, {}
    for size in (500, 1000):
        command = [project.python, "-c", TOKENIZE, *repeated(tmp_path / f"{size}", library, size)]
        done = subprocess.run(command, cwd=project.path, check=True, capture_output=True, text=True)
        tokenized, seconds[size], memory[size] = map(float, done.stdout.split()[-3:])
        assert tokenized >= size * 10**6
    print(f"seconds {seconds}, megabytes of memory {memory}")
    assert seconds[1000] < 3 * seconds[500]
    assert memory[1000] < 100


@pytest.mark.long
def test_a_killed_tokenization_keeps_whole_shards(project: Project, tmp_path: Path) -> None:
    library = b"".join(file.read_bytes() for file in held_out(project))
    command = [project.python, "-c", TOKENIZE, *repeated(tmp_path / "texts", library, 500)]
    process = subprocess.Popen(command, cwd=project.path)
    cache = tmp_path / "texts.cache"
    wait_for(lambda: any(cache.glob("*/*.bin")))
    process.kill()
    process.wait()
    kept = {file: file.stat().st_mtime_ns for file in cache.glob("*/*.bin")}
    assert not list(cache.glob("*/index.json"))
    subprocess.run(command, cwd=project.path, check=True, capture_output=True)
    (index,) = cache.glob("*/index.json")
    shards = sorted(index.parent.glob("*.bin"))
    assert len(shards) > len(kept)
    assert all(file.stat().st_mtime_ns == then for file, then in kept.items())
    documents = len(list((tmp_path / "texts").iterdir()))
    tokens = sum(file.stat().st_size for file in shards) // 2
    assert tokens == documents * (len(library) + 1) + 1
