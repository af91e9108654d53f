"""make check-update: would `copier update` apply cleanly? It is tried on a clone of this project.

Status 0: up to date, or it would; 1: there would be conflicts; 2: cannot tell.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ANSWERS = ".copier-answers.yml"


def git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing where it fails."""
    command = ["git", "-c", "core.quotePath=false", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.rstrip("\n")


def answer(project: Path, key: str) -> str:
    """What the project remembers: _commit, the template's version, or _src_path, its address."""
    found = re.search(rf"^{key}: (.+)$", (project / ANSWERS).read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def listed(paths: list[str]) -> str:
    """One path a line, indented."""
    return "\n".join(f"    {path}" for path in paths)


def update(copy: Path) -> str:
    """Update the clone; the last lines of what Copier says if it cannot."""
    command = shutil.which("copier")
    copier = [command] if command else [sys.executable, "-m", "copier"]
    done = subprocess.run(
        [*copier, "update", "--defaults", "--quiet"], cwd=copy, capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-3:] if done.returncode else []
    return "\n".join(line for line in last if not line.startswith(" "))  # no code of a traceback


def main() -> int:
    """Say what an update would do, and return the exit status."""
    project = Path(__file__).parent.parent
    if not (project / ANSWERS).is_file():
        print(f"There is no {ANSWERS}: only a project that Copier rendered can be updated.")
        return 2
    if not shutil.which("copier") and not find_spec("copier"):
        print("Copier is missing: pip install copier, and again make check-update.")
        return 2
    top = git(project, "rev-parse", "--show-toplevel")
    if not top or not git(project, "rev-parse", "--verify", "--quiet", "HEAD"):
        print("An update needs git's history: git init, commit everything, and ask again.")
        return 2
    changes = git(project, "status", "--porcelain", "--", ".").splitlines()
    if changes:
        print("Commit or stash these changes first; copier update wants that too:")
        print(listed([change[3:] for change in changes]))
        return 2

    os.environ["GIT_LFS_SKIP_SMUDGE"] = "1"  # the clone needs no large files
    with tempfile.TemporaryDirectory(prefix="check-update") as folder:
        clone = Path(folder) / "clone"
        git(project, "clone", "--quiet", "--shared", top, str(clone))
        copy = clone / git(project, "rev-parse", "--show-prefix")
        refused = update(copy)
        if refused:
            print(f"copier cannot update from {answer(project, '_src_path')}:\n{refused}")
            return 2
        conflicts = git(copy, "diff", "--name-only", "--relative", "--diff-filter=U").splitlines()
        git(copy, "add", "--all", "--", ".")
        changed = git(copy, "diff", "--name-only", "--relative", "HEAD").splitlines()
        old, new = answer(project, "_commit"), answer(copy, "_commit")
    clean = [path for path in changed if path not in (*conflicts, ANSWERS)]
    if not changed:
        print(f"Up to date: {new} is the newest version.")
    elif conflicts:
        print(f"From {old} to {new}: your edits and the template's meet, conflicts in\n")
        print(listed(conflicts))
        if clean:
            print(f"\nThese would change without one:\n\n{listed(clean)}")
        print('\nREADME.md, "Updating", says how to resolve them.')
    else:
        print(f"From {old} to {new}: applies cleanly. copier update would change\n")
        print(listed(clean or [ANSWERS]))
    return 1 if conflicts else 0


if __name__ == "__main__":
    sys.exit(main())
