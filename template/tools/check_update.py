"""make check-update: try `copier update` on a clone of this project and list the conflicts.

ANSWERS='slurm=false parts=[]' also changes these answers. Copier deletes the files of an answer
that is turned off, edited or not: the edited ones are listed.

Status 0: up to date, or applies cleanly; 1: conflicts, or edited files deleted; 2: cannot tell.
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
    """The output of git; empty if it fails."""
    command = ["git", "-c", "core.quotePath=false", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.rstrip("\n")


def answer(project: Path, key: str) -> str:
    """The answer of a key; _commit is the template's version, _src_path its address."""
    found = re.search(rf"^{key}: (.+)$", (project / ANSWERS).read_text("utf-8"), re.MULTILINE)
    return found[1].strip("'\"") if found else "unknown"


def listed(paths: list[str]) -> str:
    """One path a line, indented."""
    return "\n".join(f"    {path}" for path in paths)


def copier_command() -> list[str]:
    """The command that runs Copier, by uvx if Copier is not installed; empty without either."""
    if command := shutil.which("copier"):
        return [command]
    if find_spec("copier"):
        return [sys.executable, "-m", "copier"]
    return [uvx, "copier"] if (uvx := shutil.which("uvx")) else []


def copier(folder: Path, *arguments: str) -> str:
    """Run Copier; returns the last lines of its error message if it fails."""
    command = [*copier_command(), *arguments, "--defaults", "--quiet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-3:] if done.returncode else []
    return "\n".join(line for line in last if not line.startswith(" "))  # no traceback's code


def updating_page(project: Path) -> str:
    """The address of the page on updating, from that of the docs in the engine."""
    engine = "".join(file.read_text("utf-8") for file in project.glob("*/engine/__init__.py"))
    found = re.search(r'^DOCS = "(.+)"$', engine, re.MULTILINE)
    return f"{found[1] if found else 'docs'}/updating.md"


def missing_template(project: Path) -> str:
    """A message if the template was a local folder that is gone, else empty."""
    source = answer(project, "_src_path")
    folder = Path(source).expanduser()
    if ":" in source or (folder.is_absolute() and folder.exists()):  # a URL has a colon
        return ""
    return (
        f"The template is not at {source}. Write its address, a URL or an absolute path, as\n"
        f"_src_path in {ANSWERS}, commit, and run make check-update again."
    )


def missing_package(project: Path) -> str:
    """A message if the package was renamed, else empty."""
    package = answer(project, "package")
    if (project / package / "engine" / "__init__.py").is_file():  # a rename may leave __pycache__
        return ""
    found = [file.parent.parent.name for file in project.glob("*/engine/__init__.py")]
    renamed = found[0] if len(found) == 1 else "NEW_NAME"
    return (
        f"There is no {package}/engine: an update would leave out every change to the package.\n"
        f"If you renamed it, replace `package: {package}` by `package: {renamed}` in {ANSWERS},\n"
        f"commit, and run make check-update again. All the steps: {updating_page(project)}"
    )


def rendered(answers: Path, version: str) -> dict[str, bytes]:
    """The files of a new project of this version with these answers, by path."""
    with tempfile.TemporaryDirectory(prefix="check-update") as folder:
        shutil.copy(answers, Path(folder, ANSWERS))
        copier(Path(folder), "recopy", "--overwrite", "--vcs-ref", version)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def main() -> int:
    """Print what an update would do; return the exit status."""
    project = Path(__file__).parent.parent
    # a list may be written with spaces
    answers = re.findall(r"\w+=\[[^]]*\]|\S+", os.environ.get("ANSWERS", ""))
    if not (project / ANSWERS).is_file():
        print(f"There is no {ANSWERS}: only a project that Copier rendered can be updated.")
        return 2
    if not copier_command():
        print("Copier is missing: install uv, or pip install copier; then make check-update.")
        return 2
    top = git(project, "rev-parse", "--show-toplevel")
    if not top or not git(project, "rev-parse", "--verify", "--quiet", "HEAD"):
        print("An update needs git's history: git init, commit everything, and ask again.")
        return 2
    changes = git(project, "status", "--porcelain", "--", ".").splitlines()
    if changes:
        print("Commit or stash these changes first; copier update requires it too:")
        print(listed([change[3:] for change in changes]))
        return 2

    problem = missing_package(project) or missing_template(project)
    if problem:
        print(problem)
        return 2

    os.environ["GIT_LFS_SKIP_SMUDGE"] = "1"  # the clone needs no large files
    with tempfile.TemporaryDirectory(prefix="check-update") as folder:
        clone = Path(folder) / "clone"
        git(project, "clone", "--quiet", "--shared", top, str(clone))
        copy = clone / git(project, "rev-parse", "--show-prefix")
        refused = copier(copy, "update", *(f"--data={given}" for given in answers if "=" in given))
        if refused:
            print(f"copier cannot update from {answer(project, '_src_path')}:\n{refused}")
            return 2
        questions = re.findall(r"^(\w+):", (copy / ANSWERS).read_text("utf-8"), re.MULTILINE)
        asked = tuple(f"{question}=" for question in questions)
        if wrong := [given for given in answers if not given.startswith(asked)]:
            print(f"ANSWERS: {wrong[0]}: expected QUESTION=ANSWER, as in ANSWERS='slurm=true'")
            print(f"where QUESTION is one of {', '.join(q for q in questions if q[0] != '_')}")
            return 2
        conflicts = git(copy, "diff", "--name-only", "--relative", "--diff-filter=U").splitlines()
        git(copy, "add", "--all", "--", ".")
        changed = git(copy, "diff", "--name-only", "--relative", "HEAD").splitlines()
        old, new = answer(project, "_commit"), answer(copy, "_commit")
        before = rendered(project / ANSWERS, old) if changed else {}
        after = rendered(copy / ANSWERS, new) if changed else {}
        left_out = [
            name
            for name, text in after.items()
            if not (copy / name).exists() and before.get(name, text) != text
        ]
        gone = [name for name in changed if not (copy / name).exists()]
        edited = [name for name in gone if (project / name).read_bytes() != before.get(name)]
    clean = [path for path in changed if path not in (*conflicts, *edited, ANSWERS)]
    versions = f"From {old} to {new}" if old != new else f"With these answers, {new}"
    if not changed:
        print(f"Up to date: {new} is the newest version.")
    elif conflicts:
        print(f"{versions}: your edits and the template's meet, conflicts in\n")
        print(listed(conflicts))
        if clean:
            print(f"\nThese would change without one:\n\n{listed(clean)}")
        print(f"\nhow to resolve them: {updating_page(project)}#conflicts")
    else:
        print(f"{versions}: applies cleanly. copier update would change\n")
        print(listed(clean or [ANSWERS]))
    if edited:
        print("\nDeleted, though you edited them, because the answers leave them out, would be\n")
        print(listed(edited))
    if left_out:
        print("\nLeft out, because you deleted or renamed these files, are the changes to\n")
        print(listed(left_out))
    return 1 if conflicts or edited else 0


if __name__ == "__main__":
    sys.exit(main())
