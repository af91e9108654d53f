"""What must hold before a version is published, checked in a repository of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from .commands import ROOT, Finished
from .history import commit, git

LOG = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2026-01-31

- A key.

## [0.1.0] - 2025-12-01

- All.
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    commit(tmp_path, "Changes")
    git(tmp_path, "tag", "v0.1.0")
    git(tmp_path, "tag", "v0.2.0")
    return tmp_path


def release(repository: Path, *arguments: str) -> Finished:
    command = [sys.executable, str(ROOT / ".ci" / "release.py"), *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_the_notes_are_those_of_the_version(repository: Path) -> None:
    done = release(repository, "v0.2.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "- A key.\n"


@pytest.mark.parametrize(
    ("tag", "old", "new", "told"),
    [
        ("0.2.0", "", "", "expected a tag like v1.2.3"),
        ("v0.2", "", "", "expected a tag like v1.2.3"),
        ("v0.1.0", "", "", "expected a version above v0.2.0"),
        ("v0.3.0", "", "", "expected a heading ## [0.3.0] - YYYY-MM-DD"),
        ("v0.2.0", " - 2026-01-31", "", "expected ## [0.2.0] - YYYY-MM-DD"),
        ("v0.2.0", "- A key.\n", "", "expected a line under ## [0.2.0]"),
        ("v0.2.0", "[Unreleased]\n", "[Unreleased]\n\n- More.\n", "expected nothing under"),
    ],
)
def test_what_is_missing_is_told(repository: Path, tag: str, old: str, new: str, told: str) -> None:
    (repository / "CHANGELOG.md").write_text(LOG.replace(old, new, 1) if old else LOG)
    done = release(repository, tag)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
