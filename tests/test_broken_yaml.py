"""Problems in the files of conf/ are reported with the file, by mode=check as by any run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import Project, Render

DEFAULT = "defaults:\n  - default\n"
GLOBAL = "# @package _global_\n"

BROKEN: dict[str, tuple[str, str, list[str]]] = {
    "no end": (
        "training",
        f"{DEFAULT}run: [1\n",
        ["conf/training/broken.yaml:4:1: not valid YAML", "']'"],
    ),
    "a tab": (
        "training",
        f"{DEFAULT}run:\n\tseed: 1\n",
        ["conf/training/broken.yaml:4:1: not valid YAML", r"'\t'"],
    ),
    "a key twice": (
        "training",
        f"{DEFAULT}run:\n  seed: 1\n  seed: 2\n",
        ["conf/training/broken.yaml:5:3", "duplicate key seed"],
    ),
    "a missing default": (
        "training",
        "defaults:\n  - defalt\n",
        ["conf/training/broken.yaml", "training/defalt", "did you mean default?"],
    ),
    "values that need each other": (
        "training",
        f"{DEFAULT}run:\n  seed: ${{.eval_every}}\n  eval_every: ${{.seed}}\n",
        ["training.run.seed", "Recursive", "conf/training/broken.yaml:4", "broken.yaml:5"],
    ),
    "a resolver that fails": (
        "training",
        f"{DEFAULT}run:\n  seed: ${{oc.env:NOT_SET_HERE}}\n",
        ["training.run.seed", "'NOT_SET_HERE' not found", "conf/training/broken.yaml:4"],
    ),
    "no such resolver": (
        "training",
        f"{DEFAULT}run:\n  seed: ${{nix:1}}\n",
        ["training.run.seed", "nix", "conf/training/broken.yaml:4"],
    ),
    "half an interpolation": (
        "training",
        f"{DEFAULT}run:\n  seed: ${{.nix\n",
        ["conf/training/broken.yaml", "INTER_CLOSE"],
    ),
    "a value alone": ("training", "5\n", ["conf/training/broken.yaml: expected KEY: VALUE"]),
    "nothing in it": ("training", "", ["training: no value for some keys", "run: …"]),
    "bytes": ("training", "\udcff\udcfe", ["conf/training/broken.yaml: not UTF-8 text"]),
    "an experiment with a missing option": (
        "experiment",
        f"{GLOBAL}defaults:\n  - override /model: tinny\n",
        ["conf/experiment/broken.yaml", "model/tinny", "did you mean tiny?"],
    ),
    "an experiment without its header": (
        "experiment",
        "training:\n  run:\n    seed: 3\n",
        ["# @package _global_", "experiment=broken"],
    ),
    "the same with overrides": (
        "experiment",
        "defaults:\n  - override /model: tiny\n",
        ["conf/experiment/broken.yaml", "# @package _global_"],
    ),
}


@pytest.fixture(scope="module")
def own(render: Render) -> Project:
    """A project whose conf/ is broken and mended."""
    return Project(render(project_name="Broken"))


@pytest.fixture
def broken(own: Project, request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    group, text, told = BROKEN[request.param]
    file = Path(own.path, "conf", group, "broken.yaml")
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    yield f"{group}=broken", told
    file.unlink()


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
@pytest.mark.parametrize("mode", ["check", "train"])
def test_a_broken_file_is_named(own: Project, broken: tuple[str, list[str]], mode: str) -> None:
    option, told = broken
    done = own.run(f"python train.py mode={mode} {option}", status=2)
    for words in told:
        assert words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) < 12
    assert not (own.path / "runs").exists()


def test_a_broken_file_that_is_not_used_hides_no_place(own: Project) -> None:
    file = own.path / "conf" / "training" / "unused.yaml"
    file.write_text("run: [1")
    try:
        mended = own.path / "conf" / "training" / "odd.yaml"
        mended.write_text(f"{DEFAULT}optim:\n  lr: -1\n")
        done = own.run("python train.py training=odd", status=2)
        assert "from conf/training/odd.yaml:4" in done.stderr
    finally:
        file.unlink()
