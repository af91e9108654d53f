"""Whatever a user types or a file holds: it is accepted, or refused in a few lines."""

from pathlib import Path

import pytest

from .conftest import Project
from .fuzz import fuzz, is_known, outcomes

CASES = 400


@pytest.mark.slow
@pytest.mark.task("speech")
def test_random_input_is_accepted_or_refused_in_a_few_lines(project: Project, dryrun: str) -> None:
    found = fuzz(project.path, project.python, "fixed", CASES)
    failures = [failure for failure in found if not is_known(failure)]
    assert not failures, "\n".join(failures[:20])


DRY = "model=dryrun training=dryrun"
EXPERIMENT = "# @package _global_\ntraining:\n  run:\n    seed: 3\n"
MESSAGES: dict[str, tuple[str, list[str]]] = {
    "a plus before a group": ("+model=tiny", ["+model=tiny: model has a default", "model=tiny"]),
    "a plus before an experiment": ("+experiment=quick", ["type experiment=quick"]),
    "a key of another dataset": (
        "data=manifest data.items.test=20",
        ["data.items.test = 20: no such key; did you mean data.test?"],
    ),
    "two wrong keys alike": (
        "epochs=3 training.epochs=3",
        ["epochs = 3: no such key; the config has: ", "training has: run, optim"],
    ),
    "a key without its group": (
        "optim.lr=1 seed=1",
        [
            "optim.lr = 1: no such key; did you mean training.optim.lr (training.lr)?",
            "seed = 1: no such key; did you mean training.run.seed (training.seed) or ",
        ],
    ),
    "words for true and null": (
        "training.run.compile=on training.optim.grad_clip=None",
        ["expected true or false; did you mean true?", "number; did you mean null?"],
    ),
    "a value for a section": ("training.optim=3", ["expected a section, with keys of its own"]),
    "keys that disagree, by their aliases": (
        "training=fastrun training.iter_num=60",
        [
            "below run.iter_num (60)",
            "change one of them: training.warmup_steps=…, training.iter_num",
        ],
    ),
    "a deleted list element": ("'~training.optim.betas.1'", ["~training.optim.betas.1: Hydra "]),
    "a list that Hydra cannot read": (
        "'input=[ü.wav,a b.wav]'",
        ["put each text in it in quotes", """'input=["a b","c"]'"""],
    ),
    "the home directory": ("mode=evaluate checkpoint=~/nix", [f"checkpoint = {Path.home()}/nix: "]),
    "the home directory in quotes": (
        """mode=evaluate 'checkpoint="~/nix"'""",
        [f"checkpoint = {Path.home()}/nix: no such file"],
    ),
    "the home directory in a list": ("'input=[\"~/a\"]'", ["input = ~/a: write ${oc.env:HOME}/a"]),
    "more iterations than the run had": (
        f"{DRY} name=dry training.iter_num=6",
        ["training.run.iter_num: then 4, now 6 (the cosine schedule depends on it)"],
    ),
    "a config that is shown": ("--cfg job +training.nix=1", ["training.nix = 1: no such key"]),
    "control characters": ("'training=\x1b[31m'", ["\\x1b[31m"]),
}
FILES: dict[str, tuple[str, str, str, list[str]]] = {
    "another ending": (
        "experiment=mine",
        "conf/experiment/mine.yml",
        EXPERIMENT,
        ["Hydra reads files that end in .yaml: rename conf/experiment/mine.yml"],
    ),
    "a byte order mark": (
        "experiment=mine",
        "conf/experiment/mine.yaml",
        "\ufeff" + EXPERIMENT,
        ["without a byte order mark (BOM)", "conf/experiment/mine.yaml:3"],
    ),
    "a merge conflict": (
        "training=mine",
        "conf/training/mine.yaml",
        "defaults:\n  - default\n<<<<<<< HEAD\nrun:\n  seed: 1\n=======\n>>>>>>> other\n",
        ["conf/training/mine.yaml:3: a merge conflict of git; keep one of its two sides"],
    ),
    "the home directory": (
        "training=mine",
        "conf/training/mine.yaml",
        "defaults:\n  - default\nprocesses:\n  first_node: ~/x\n",
        ["first_node = ~/x: write ${oc.env:HOME}/x", "conf/training/mine.yaml:4"],
    ),
    "deep nesting": (
        "training=mine",
        "conf/training/mine.yaml",
        "[" * 200_000,
        ["conf/training/mine.yaml: nested too deeply"],
    ),
}


@pytest.mark.task("speech")
def test_messages_say_what_to_type(project: Project, dryrun: str) -> None:
    cases = [(arguments, "", "", "") for arguments, _ in MESSAGES.values()]
    cases += [(arguments, file, "", text) for arguments, file, text, _ in FILES.values()]
    expected = [words for *_, words in (*MESSAGES.values(), *FILES.values())]
    found = outcomes(project.path, project.python, cases)
    for case, (status, _, told, failures), words in zip(cases, found, expected, strict=True):
        assert (status, failures) == (2, []), (case, told)
        for text in words:
            assert text in told, (case, told)
        assert len(told.splitlines()) < 10, told


@pytest.mark.task("speech")
def test_a_list_element_is_explained(project: Project, dryrun: str) -> None:
    command = "mode=explain key=training.optim.betas training.optim.betas.0=0.8"
    for arguments in (command, f"{command} format=json"):
        ((status, printed, _, _),) = outcomes(
            project.path, project.python, [(arguments, "", "", "")]
        )
        assert status == 0
        assert "the command line: training.optim.betas.0=0.8" in printed
