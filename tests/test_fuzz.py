"""Whatever a user types or a file holds: it is accepted, or refused in a few lines."""

import subprocess
from pathlib import Path

import pytest

from .commands import Project
from .fuzz import fuzz, outcomes
from .tasks import TASKS

CASES = 60
SPEECH = TASKS["speech"]
*_, OF_THE_OTHER = SPEECH.small  # a key of the embedded dataset alone, whose last word is test


@pytest.mark.slow
@pytest.mark.task("speech")
def test_random_input_is_accepted_or_refused_in_a_few_lines(project: Project, dryrun: str) -> None:
    failures = list(fuzz(project.path, project.python, "fixed", CASES))
    assert not failures, "\n".join(failures[:20])


DRY = "model=dryrun training=dryrun"
EXPERIMENT = "# @package _global_\ntraining:\n  run:\n    seed: 3\n"
MESSAGES: dict[str, tuple[str, list[str]]] = {
    "a plus before a group": ("+model=tiny", ["+model=tiny: model has a default", "model=tiny"]),
    "a plus before an experiment": ("+experiment=quick", ["type experiment=quick"]),
    "a key of another dataset": (
        f"data={SPEECH.own} {OF_THE_OTHER}=20",
        [f"{OF_THE_OTHER} = 20: no such key; did you mean data.test?"],
    ),
    "two wrong keys alike": (
        "epochs=3 training.epochs=3",
        ["epochs = 3: no such key; the config has: ", "training has: optim, run"],
    ),
    "a key without its group": (
        "optim.lr=1 seed=1",
        [
            "optim.lr = 1: no such key; did you mean training.optim.lr? (training.lr for short)",
            "seed = 1: no such key; did you mean training.run.seed or ",
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
            "change one: training.warmup_steps=… or training.iter_num=…",
        ],
    ),
    "a deleted list element": ("'~training.optim.betas.1'", ["~training.optim.betas.1: Hydra "]),
    "a list that Hydra cannot read": (
        "'input=[ü.wav,a b.wav]'",
        ["[ü.wav,a b.wav]: Hydra reads such a text only in quotes"],
    ),
    "the home directory": ("mode=evaluate checkpoint=~/nix", [f"checkpoint = {Path.home()}/nix: "]),
    "the home directory in quotes": (
        """mode=evaluate 'checkpoint="~/nix"'""",
        [f"checkpoint = {Path.home()}/nix: no such file"],
    ),
    "more iterations than the run had": (
        f"{DRY} name=dry training.iter_num=6",
        ["training.run.iter_num: then 4, now 6", "resume=force to continue"],
    ),
    "a config that is shown": ("--cfg job +training.nix=1", ["training.nix = 1: no such key"]),
    "a flag that is none": ("--nix", ["unrecognized arguments: --nix", "train.py --help"]),
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
        ["without a byte order mark (BOM)", "experiment=mine"],
    ),
    "a merge conflict": (
        "training=mine",
        "conf/training/mine.yaml",
        "defaults:\n  - default\n<<<<<<< HEAD\nrun:\n  seed: 1\n=======\n>>>>>>> other\n",
        ["conf/training/mine.yaml:3: not valid YAML: <<<<<<< is a merge conflict of git"],
    ),
    "the home directory": (
        "engine=mine",
        "conf/engine/mine.yaml",
        "defaults:\n  - default\nfirst_node: ~/x\n",
        ["first_node = ~/x: write ${oc.env:HOME}/x", "conf/engine/mine.yaml:3"],
    ),
    "deep nesting": (
        "training=mine",
        "conf/training/mine.yaml",
        "[" * 200_000,
        ["conf/training/mine.yaml: ", "nested too deeply"],
    ),
}


ELEMENT = "training.optim.betas.0=0.8"
PRINTED = {
    f"mode=explain key=training.optim.betas {ELEMENT}": f"the command line: {ELEMENT}",
    f"mode=explain format=json key=training.optim {ELEMENT}": f"the command line: {ELEMENT}",
    f"{DRY} mode=check checkpoint=runs/dry/checkpoints": "data ",
}


@pytest.mark.task("speech")
def test_messages_say_what_to_type(project: Project, dryrun: str) -> None:
    cases = [(arguments, "", "", "") for arguments, _ in MESSAGES.values()]
    cases += [(arguments, file, "", text) for arguments, file, text, _ in FILES.values()]
    cases += [(arguments, "", "", "") for arguments in PRINTED]
    expected = [words for *_, words in (*MESSAGES.values(), *FILES.values())]
    found = outcomes(project.path, project.python, cases)
    refused, accepted = found[: len(expected)], found[len(expected) :]
    for case, (status, _, error, failures), words in zip(cases, refused, expected, strict=False):
        assert (status, failures) == (2, []), (case, error)
        for text in words:
            assert text in error, (case, error)
        assert len(error.splitlines()) < 10, error
    for (status, printed, error, failures), text in zip(accepted, PRINTED.values(), strict=True):
        assert (status, failures) == (0, []), error
        assert text in printed


@pytest.mark.task("speech")
def test_a_terminal_without_unicode_gets_the_help_page(project: Project) -> None:
    done = project.run("python train.py --help", PYTHONIOENCODING="latin-1")
    assert "[key=value \\u2026]" in done.stdout


@pytest.mark.task("speech")
def test_a_broken_link_for_runs_is_named(project: Project, tmp_path: Path) -> None:
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "unmounted")
    done = project.run(f"python train.py {DRY} runs_dir={link}", status=2)
    assert f"{link} is a link to nothing" in done.stderr


@pytest.mark.task("speech")
def test_too_little_memory_is_said_in_a_line(project: Project) -> None:
    command = f"ulimit -v 300000; exec {project.python} train.py {DRY} training.devices=2"
    done = subprocess.run(["bash", "-c", command], cwd=project.path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "memory ran out" in done.stderr
    assert "Traceback" not in done.stderr
