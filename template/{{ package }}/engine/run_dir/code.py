"""A copy of the code and conf/ of a submission: queued jobs run it. No torch here."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .. import find_part
from ..errors import UserError
from .paths import CODE, COMMAND

LARGEST = 2**20  # bytes of a file that is copied; a larger one becomes a link
GIT, DIFF = "git.json", "uncommitted.diff"
NEW_FILES = ("conf", "*.py", ":(exclude)*/site-packages/*")


def is_copy(root: Path) -> bool:
    """Whether this project is the copy of a submission."""
    return root.parent.name == CODE


def run_copy(root: Path, config: Any, place: Path) -> None:
    """Continue this command line in a copy of its code in `place`. Raises UserError without one.

    Later starts of a script's Slurm job find the copy. mode=describe writes to conf/, so not there.
    """
    if config.code == "now" or config.mode == "describe" or is_copy(root):
        return
    try:
        copy = copy_code(root, place / CODE)
        if (slurm := find_part("slurm")) and config.engine.requeue:
            slurm.keep_code(root, copy)
    except OSError as error:
        raise UserError(
            f"code = submitted: cannot copy the code to {place / CODE} ({error.strerror})\n"
            "make room there, choose another runs_dir, or code=now, to run today's code"
        ) from None
    restart(copy)


def restart(copy: Path) -> NoReturn:
    """Start this command line again in a copy; the working directory stays."""
    sys.stdout.flush()
    given = shlex.split(os.environ[COMMAND])[2:]
    os.execv(sys.executable, [sys.executable, str(copy / "train.py"), *given])


def copy_code(root: Path, folder: Path) -> Path:
    """A copy of the project's code in `folder`, named by its digest: one for the same code."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as temporary:
        new = Path(temporary, "code")
        for file in sorted(list_code(root)):
            to = new / file.relative_to(root)
            to.parent.mkdir(parents=True, exist_ok=True)
            if is_large := file.stat().st_size > LARGEST:
                to.symlink_to(file.absolute())
            else:
                shutil.copy(file, to)
            digest.update(repr((str(to.relative_to(new)), is_large or to.read_bytes())).encode())
        copy = folder.absolute() / digest.hexdigest()[:16]
        state, diff = git_state(root)
        (new / GIT).write_text(json.dumps(state), "utf-8")
        (new / DIFF).write_bytes(diff)
        with suppress(OSError):  # the same code is there
            new.rename(copy)
    return copy


def list_code(root: Path) -> Iterator[Path]:
    """The files of conf/, and of the modules and packages that train.py can import from `root`."""
    yield from root.glob("*.py")
    packages = (file.parent.name for file in root.glob("*/__init__.py"))
    for top in ("conf", "hydra_plugins", *packages):
        for folder, folders, names in os.walk(root / top, followlinks=True):
            folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
            files = (Path(folder, name) for name in names if name[0] != ".")
            yield from filter(Path.is_file, files)


def git_state(root: Path) -> tuple[dict[str, Any], bytes]:
    """Commit, branch and changed files of the project's folder, and the diff to the commit.

    The diff includes new Python files, and new files in conf/, that git does not ignore. A
    copy returns the state recorded at its submission.
    """
    if is_copy(root):
        return json.loads((root / GIT).read_text("utf-8")), (root / DIFF).read_bytes()
    if not (commit := _git(root, "rev-parse", "HEAD").decode().strip()):
        return {}, b""
    branch = _git(root, "branch", "--show-current").decode(errors="replace").strip()
    changed = _git(root, "status", "--porcelain", "--", ".").decode(errors="replace").splitlines()
    state = {"commit": commit, "branch": branch, "uncommitted": changed}
    index = root / os.fsdecode(_git(root, "rev-parse", "--git-path", "index").strip())
    with tempfile.TemporaryDirectory() as folder:
        copied = f"{folder}/index"  # a copy: the user's own lists no new files
        with suppress(OSError):
            shutil.copy(index, copied)
        _git(root, "add", "--intent-to-add", "--", *NEW_FILES, GIT_INDEX_FILE=copied)
        _git(root, "update-index", "--refresh", GIT_INDEX_FILE=copied)
        # unlike `git diff`, it ignores the user's settings: colours, prefixes, programs
        plain = ("diff-index", "--patch", "--binary", "--no-ext-diff")
        diff = _git(root, *plain, "HEAD", "--", ".", GIT_INDEX_FILE=copied)
    return state | ({"diff": DIFF} if diff else {}), diff


def _git(root: Path, *arguments: str, **more: str) -> bytes:
    command = ["git", "-c", "core.safecrlf=false", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, env=os.environ | more)
    except OSError:
        return b""  # no git
    return done.stdout if done.returncode == 0 else b""
