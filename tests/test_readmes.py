"""The commands that both READMEs show; test_environments.py types the first ones."""

import json
import re
import shlex
import shutil
from pathlib import Path

from markdown_it import MarkdownIt

from .commands import ROOT, Project, prepared

WORDS = {
    "NAME": "dry",
    "FILE_OR_FOLDER": "examples",
    "runs/SWEEP": "runs",
    "runs/first": "runs/dry",
}


def code_lines(markdown: str) -> list[str]:
    """Lines of code blocks, without their comments, and code within the text."""
    lines = []
    for token in MarkdownIt().enable("table").parse(markdown):
        if token.type in ("code_block", "fence"):
            lines += [re.sub(r"\s+#\s.*", "", line).strip() for line in token.content.splitlines()]
        lines += [it.content for it in token.children or [] if it.type == "code_inline"]
    return list(dict.fromkeys(lines))


def commands(readme: Path, program: str) -> list[str]:
    lines = code_lines(readme.read_text())
    return [line for line in lines if line.startswith(f"{program} ") and "…" not in line]


def test_commands_of_a_projects_readme_are_accepted(project: Project, dryrun: str) -> None:
    """Checks before a run accept them, except commands that need the reader's own data or files."""
    found = commands(project.path / "README.md", "python train.py")
    found += commands(ROOT / "README.md", "python train.py")
    assert len(found) > 25
    for word, value in WORDS.items():
        found = [re.sub(rf"\b{word}\b", value, command) for command in found]
    examples = ROOT / "tests" / "examples" / project.task.name
    shutil.copytree(examples, project.path / "examples", dirs_exist_ok=True)
    outcomes = dict(zip(found, prepared(project, [shlex.split(c)[2:] for c in found]), strict=True))
    refused = {command for command, outcome in outcomes.items() if outcome.startswith("refused")}
    own = r"data\.|data=(photos|recordings)|runs/(photos|recordings)|input=\S*\."
    need_own_data = {c for c in found if re.search(rf"{own}|tinny|-1\b|slurm|devices", c)}
    assert refused <= need_own_data, {command: outcomes[command] for command in refused}


def test_commands_that_only_show_or_compare(project: Project, dryrun: str) -> None:
    shown = [
        command
        for command in commands(project.path / "README.md", "python train.py")
        if re.search(r"mode=(report|check|explain)|--cfg|--help", command)
        and not re.search(r"SWEEP|first", command)
    ]
    assert len(shown) >= 6
    for command in shown:
        project.run(command.replace("model=base", ""))


def test_make_targets_exist(project: Project) -> None:
    makefile = (project.path / "Makefile").read_text()
    for folder, text in ((project.path, makefile), (ROOT, (ROOT / "Makefile").read_text())):
        for command in commands(folder / "README.md", "make"):
            for word in shlex.split(command.partition("&&")[0])[1:]:
                if "=" not in word:
                    assert re.search(rf"^{word}:", text + makefile, re.MULTILINE), command


def test_launch_configurations_start(project: Project) -> None:
    launch = json.loads((project.path / ".vscode" / "launch.json").read_text())
    chosen = {"input:mode": "check", "input:overrides": "model=dryrun training=dryrun"}
    chosen["fileBasenameNoExtension"] = "quick"
    started = 0
    for it in launch["configurations"]:
        given = it["args"] if isinstance(it["args"], str) else shlex.join(it["args"])
        for variable, value in chosen.items():
            given = given.replace(f"${{{variable}}}", value)
        if "program" in it:
            (outcome,) = prepared(project, [shlex.split(given)])
            assert not outcome.startswith("refused"), outcome
            assert (project.path / it["program"]).is_file()
            started += 1
    assert started == 3
