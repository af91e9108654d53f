"""copier update in living projects: what users wrote stays, what the template brings arrives.

Every pair takes a project of version 0.1.0, edits it as people do, and updates it to a version that
differs in one way. What must come out follows from three trees alone: the project as rendered, as
edited, and as the new version renders it.
"""

import difflib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml

from .commands import NAMED, ROOT, Project
from .conftest import oldest_copier
from .history import (
    CHANGES,
    EDITS,
    PACKAGE,
    changed_values,
    commit,
    copier_command,
    copy_template,
    git,
    own_presets,
)

ANSWERS = ".copier-answers.yml"
EVERYTHING = "v1.0.0"  # every change at once, the latest version
Tree = dict[str, str]

# the change, the edit, the files in conflict, and whether a dryrun proves more than composing
COMPOSES, RUNS = "composes", "runs"
LOOP, ALIASES = f"{PACKAGE}/training.py", f"{PACKAGE}/engine/compose/aliases.py"
DEFAULT = "conf/training/default.yaml"
PAIRS: list[tuple[str, str, set[str], str]] = [
    ("new_key", "changed_values", set(), COMPOSES),
    ("new_key", "added_key", set(), COMPOSES),
    ("new_key", "key_beside_seed", {DEFAULT}, ""),
    ("new_key", "reformatted_yaml", {DEFAULT}, ""),
    ("new_key", "own_presets", set(), COMPOSES),
    ("new_key", "own_model", set(), RUNS),
    ("new_value", "changed_values", set(), COMPOSES),
    ("new_value", "changed_fastrun", {"conf/training/fastrun.yaml"}, ""),
    ("new_value", "reformatted_yaml", {"conf/training/fastrun.yaml"}, ""),
    ("new_value", "renamed_preset", set(), COMPOSES),
    ("new_preset", "own_presets", set(), COMPOSES),
    ("new_preset", "own_longrun", {"conf/training/longrun.yaml"}, ""),
    ("new_preset", "ignored_files", set(), COMPOSES),
    ("new_group", "changed_values", set(), COMPOSES),
    ("new_group", "own_dataset", set(), RUNS),
    ("new_group", "own_machine", {"conf/config.yaml"}, ""),
    ("new_group", "rewritten_loop", set(), RUNS),
    ("new_group", "deleted_examples", set(), COMPOSES),
    ("renamed_module", "edited_loop", set(), RUNS),
    ("renamed_module", "own_model", set(), COMPOSES),
    ("renamed_module", "edited_engine", {ALIASES}, ""),
    ("renamed_module", "own_test", set(), COMPOSES),
    ("moved_module", "rewritten_loop", set(), RUNS),
    ("moved_module", "edited_engine", {ALIASES}, ""),
    ("moved_module", "own_dataset", set(), COMPOSES),
    ("mended_engine", "edited_engine", set(), RUNS),
    ("mended_engine", "edited_loop", set(), COMPOSES),
    ("mended_engine", "own_machine", set(), COMPOSES),
    ("improved_model", "own_model", {f"{PACKAGE}/model.py"}, ""),
    ("improved_model", "changed_values", set(), COMPOSES),
    ("improved_loop", "edited_loop", set(), RUNS),
    ("improved_loop", "rewritten_loop", {LOOP}, ""),
    ("removed_file", "hooks_edited", set(), COMPOSES),
    ("removed_file", "own_ci_step", set(), COMPOSES),
    ("removed_preset", "edited_example", set(), COMPOSES),
    ("removed_preset", "deleted_examples", set(), COMPOSES),
    ("better_example", "edited_example", set(), COMPOSES),
    ("better_example", "deleted_examples", set(), COMPOSES),
    ("changed_question", "edited_readme", set(), COMPOSES),
    ("changed_question", "added_key", set(), COMPOSES),
    ("new_question", "own_dependencies", set(), COMPOSES),
    ("new_question", "deleted_examples", set(), COMPOSES),
    ("better_readme", "edited_readme", set(), COMPOSES),
    ("better_readme", "readme_with_an_end", {"README.md"}, ""),
    ("new_dependency", "own_dependencies", set(), COMPOSES),
    ("new_ci_step", "own_ci_step", set(), COMPOSES),
    ("new_ci_step", "own_lint_step", {".github/workflows/ci.yml"}, ""),
    ("new_target", "own_target", set(), COMPOSES),
]


def answers_of(project: Path) -> dict[str, object]:
    remembered = yaml.safe_load((project / ANSWERS).read_text("utf-8"))
    return {key: value for key, value in remembered.items() if not key.startswith("_")}


def kept_paths(settings: str) -> tuple[str, ...]:
    """What is rendered no more, by copier.yml."""
    excluded = yaml.safe_load(settings)["_exclude"]
    return tuple(path.lstrip("/") for path in excluded if "{%" not in path)


# no change of the template's touches the same or adjacent lines
HARMLESS = (
    "changed_values",
    "added_key",
    "own_presets",
    "edited_loop",
    "own_dataset",
    "deleted_examples",
    "own_test",
    "edited_readme",
    "own_dependencies",
    "own_ci_step",
    "own_target",
    "ignored_files",
    "hooks_edited",
)


# in one file each, or at a distance
CLASHING = (
    "changed_fastrun",
    "key_beside_seed",
    "own_longrun",
    "own_model",
    "own_machine",
    "edited_engine",
    "rewritten_loop",
    "readme_with_an_end",
    "own_lint_step",
    "hooks_edited",
)


class History:
    """A template with versions: v0.1.0 is today's, each later one differs from it in one way."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "template"
        self.rendered = folder / "rendered"
        copy_template(self.path)
        self.tags = {change: f"v0.{minor}.0" for minor, change in enumerate(CHANGES, start=2)}
        for change, tag in self.tags.items():
            git(self.path, "checkout", "-q", "v0.1.0")
            CHANGES[change](self.path)
            commit(self.path, change)
            git(self.path, "tag", tag)
        git(self.path, "checkout", "-q", "main")
        for change, work in CHANGES.items():
            if change != "moved_module":  # the same module is renamed already
                work(self.path)
                commit(self.path, change)
        git(self.path, "tag", EVERYTHING)

    def render(self, tag: str) -> Path:
        """A new project of this version, with the answers that v0.1.0 took by default."""
        target = self.rendered / tag
        if not target.exists():
            answers = NAMED if tag == "v0.1.0" else answers_of(self.render("v0.1.0"))
            copier.run_copy(str(self.path), target, answers, vcs_ref=tag, defaults=True, quiet=True)
        return target

    def kept(self, tag: str) -> tuple[str, ...]:
        """What an update to this version must leave as it is."""
        return kept_paths(git(self.path, "show", f"{tag}:copier.yml"))


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history"))


@pytest.fixture(scope="session")
def fresh(history: History) -> Path:
    """A project of v0.1.0 with its first commit."""
    fresh = history.render("v0.1.0")
    git(fresh, "init", "-q")
    commit(fresh, "Rendered")
    return fresh


@pytest.fixture
def edited(fresh: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of it with these edits, committed."""

    def edit(*edits: str) -> Path:
        project = tmp_path / "project"
        shutil.copytree(fresh, project)
        for name in edits:
            EDITS[name](project)
        commit(project, "Mine")
        return project

    return edit


def tree(project: Path) -> Tree:
    """Every file's text; git's own and Python's caches left out."""
    files = (file for file in project.rglob("*") if file.is_file())
    return {
        str(file.relative_to(project)): file.read_text("utf-8")
        for file in files
        if not {".git", "__pycache__"} & set(file.parts)
    }


def changed_lines(old: str, new: str) -> list[tuple[int, int, list[str]]]:
    """Ranges of old lines, and what stands there in new."""
    a, b = old.splitlines(), new.splitlines()
    steps = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return [(i, j, b[k:end]) for kind, i, j, k, end in steps if kind != "equal"]


def clash(old: str, mine: str, theirs: str) -> bool:
    """Whether both changed the same or adjacent lines, and differently."""
    return any(
        start <= their_end and their_start <= end and (start, end, text) != theirs_change
        for start, end, text in changed_lines(old, mine)
        for theirs_change in changed_lines(old, theirs)
        for their_start, their_end, _ in [theirs_change]
    )


def lines(text: str) -> Counter[str]:
    return Counter(text.splitlines())


def conflicts(project: Path) -> set[str]:
    """The files that git holds for unmerged; no others may have markers, and .rej files none."""
    unmerged = set(git(project, "diff", "--name-only", "--diff-filter=U").splitlines())
    for path, text in tree(project).items():
        assert not path.endswith(".rej")
        assert ("\n<<<<<<< " in f"\n{text}") == (path in unmerged), path
    return unmerged


def check_merged(old: Tree, mine: Tree, theirs: Tree, now: Tree, kept: tuple[str, ...]) -> set[str]:
    """Compare with what the three trees demand, file by file; return where both must clash."""
    clashing = set()
    for path in sorted(old.keys() | mine.keys() | theirs.keys() | now.keys()):
        was, my, their, got = (t.get(path) for t in (old, mine, theirs, now))
        if path == ANSWERS:
            continue
        if path in kept or path.startswith("conf/experiment/"):
            assert got == my, f"{path}: an update must leave it alone"
        elif my == was:
            assert got == their, f"{path}: what the template changed must arrive"
        elif their == was or my is None:
            assert got == my, f"{path}: what only the user changed must stay"
        else:
            assert their is not None, f"{path}: gone from the template, and not in _exclude"
            assert got is not None
            mine_added = lines(my) - lines(was or "")
            assert not mine_added - lines(got), f"{path}: lost lines of the user's"
            theirs_added = lines(their) - lines(was or "")
            assert not theirs_added - lines(got), f"{path}: lost lines of the template's"
            if clash(was or "", my, their):
                clashing.add(path)
            else:
                gone = (lines(was or "") - lines(my)) + (lines(was or "") - lines(their))
                assert lines(got) == lines(was or "") + mine_added + theirs_added - gone, path
    return clashing


def update(project: Path, tag: str | None = None) -> None:
    """In this process and without trust; test_copier.py has the real command."""
    copier.run_update(project, vcs_ref=tag, defaults=True, quiet=True, overwrite=True, unsafe=False)


def works(project: Path, how: str) -> None:
    if how == RUNS:
        said = Project(project).run("python train.py model=dryrun training=dryrun").stdout
        loop = (project / PACKAGE / "training.py").read_text()
        assert ("my loop ran" in said) == ("my loop ran" in loop)
    else:
        composed = Project(project).run("python train.py --cfg job model=tiny").stdout
        assert "seed:" in composed


def shared_out() -> Iterator[Any]:
    """The pairs; `make test` has enough of them to include each change and each edit."""
    seen = set[str]()
    for pair in PAIRS:
        is_new = not seen.issuperset(pair[:2])
        seen.update(pair[:2])
        marks = () if is_new else pytest.mark.long
        yield pytest.param(*pair, id=f"{pair[0]}-{pair[1]}", marks=marks)


@pytest.mark.parametrize(("change", "edit", "expected", "how"), list(shared_out()))
def test_an_update_merges(
    history: History,
    fresh: Path,
    edited: Callable[..., Path],
    change: str,
    edit: str,
    expected: set[str],
    how: str,
) -> None:
    project = edited(edit)
    mine, tag = tree(project), history.tags[change]
    update(project, tag)
    theirs = tree(history.render(tag))
    clashing = check_merged(tree(fresh), mine, theirs, tree(project), history.kept(tag))
    assert conflicts(project) == expected
    assert clashing == expected, "a conflict only where both changed the same or adjacent lines"
    assert f"_commit: {tag}\n" in (project / ANSWERS).read_text()
    assert answers_of(fresh).items() <= answers_of(project).items()
    assert git(project, "rev-list", "--count", "HEAD") == "2\n", "an update commits nothing"
    if not expected:
        works(project, how)


def test_every_change_and_every_edit_is_in_a_pair() -> None:
    assert len(PAIRS) >= 40
    assert {pair[0] for pair in PAIRS} == set(CHANGES)
    assert {pair[1] for pair in PAIRS} == set(EDITS)


@pytest.mark.slow
def test_a_living_project_catches_up_with_everything(
    history: History, fresh: Path, edited: Callable[..., Path], each_copier: str
) -> None:
    """Many edits, every change at once, and the real command without --trust."""
    project = edited(*HARMLESS)
    mine = tree(project)
    done = copier_command(project, history.path, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    theirs = tree(history.render(EVERYTHING))
    kept = history.kept(EVERYTHING)
    assert check_merged(tree(fresh), mine, theirs, tree(project), kept) == set()
    assert conflicts(project) == set()
    if each_copier == "oldest":
        return  # the files are the same
    works(project, RUNS)
    # make schema, as the message after an update says: both sides have changed the types
    Project(project).run("python -m tools.schemas")
    Project(project).run("python -m pytest -q tests/test_mine.py tests/test_config.py")


def test_the_oldest_copier_merges_what_clashes(
    history: History,
    fresh: Path,
    edited: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(oldest_copier()))
    project = edited(*CLASHING)
    mine = tree(project)
    done = copier_command(project, history.path, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    theirs, kept = tree(history.render(EVERYTHING)), history.kept(EVERYTHING)
    clashing = check_merged(tree(fresh), mine, theirs, tree(project), kept)
    assert conflicts(project) == clashing
    expected = {path for _, edit, files, _ in PAIRS for path in files if edit in CLASHING}
    assert clashing == expected


def test_a_conflict_is_resolved_like_any_other_and_the_next_update_works(
    history: History, edited: Callable[..., Path]
) -> None:
    project = edited("changed_fastrun")
    preset = "conf/training/fastrun.yaml"
    update(project, history.tags["new_value"])
    text = (project / preset).read_text()
    assert "<<<<<<< before updating\n  iter_num: 777\n" in text
    assert "  iter_num: 1234\n>>>>>>> after updating\n" in text
    git(project, "checkout", "-q", "--ours", preset)
    commit(project, "Updated; my number stays")
    update(project)
    assert conflicts(project) == set()
    assert "iter_num: 777" in (project / preset).read_text()
    works(project, COMPOSES)


def test_an_update_is_undone_as_docs_say(history: History, edited: Callable[..., Path]) -> None:
    project = edited("changed_fastrun", "ignored_files")
    before = tree(project)
    update(project, EVERYTHING)
    assert tree(project) != before
    undo = re.search(
        r"`(git reset --hard && git clean -fd)`", (ROOT / "docs/updating.md").read_text()
    )
    assert undo
    subprocess.run(undo[1], shell=True, check=True, cwd=project, capture_output=True)
    assert tree(project) == before


def test_uncommitted_changes_are_refused(history: History, edited: Callable[..., Path]) -> None:
    project = edited()
    EDITS["changed_values"](project)
    before = tree(project)
    done = copier_command(project, history.path, "update", "--defaults")
    assert done.returncode != 0
    assert "Please commit or stash your local changes and retry." in done.stderr
    assert tree(project) == before


RELEASED = git(ROOT, "tag", "--list", "v*").split()


@pytest.mark.skipif(not RELEASED, reason="no version is released yet")
@pytest.mark.parametrize("version", RELEASED)
def test_every_released_version_updates_to_today(tmp_path: Path, version: str) -> None:
    template, project = tmp_path / "template", tmp_path / "project"
    git(tmp_path, "clone", "-q", str(ROOT), str(template))
    copier.run_copy(str(template), project, vcs_ref=version, defaults=True, quiet=True)
    git(project, "init", "-q")
    commit(project, "Rendered")
    old = tree(project)
    changed_values(project)
    own_presets(project)
    commit(project, "Mine")
    mine = tree(project)
    answers = answers_of(project)
    update(project, "HEAD")
    new = tmp_path / "new"
    copier.run_copy(str(template), new, answers, vcs_ref="HEAD", defaults=True, quiet=True)
    kept = kept_paths((template / "copier.yml").read_text())
    gone = {path for path in old if path not in tree(new)}
    examples = {path for path in gone if path.startswith("conf/experiment/")}
    assert gone - examples <= set(kept), "a file that goes is listed in _exclude"
    check_merged(old, mine, tree(new), tree(project), kept)
    if not conflicts(project):
        works(project, RUNS)
