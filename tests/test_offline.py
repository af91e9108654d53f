"""With networking cut off, in a namespace that has a loopback and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import Finished, Render
from .history import commit, copy_template, git, substitute
from .tasks import Task

UNSHARE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
# bring the loopback up (SIOCSIFFLAGS, IFF_UP), then become the command
INSIDE = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
# every Python process writes down whom it asks for an address or tries to reach
WITNESS = """
import sys
def note(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        with open(LOG, "a") as log:
            log.write(f"{event} {host} {sys.argv}\\n")
sys.addaudithook(note)
"""


def cut_off(folder: Path, *command: str) -> Finished:
    """Run it where no network is; assert that none was missed."""
    witness, log = folder.parent / "witness", folder.parent / "contacts"
    witness.mkdir(exist_ok=True)
    (witness / "sitecustomize.py").write_text(WITNESS.replace("LOG", repr(str(log))))
    inherited = {k: v for k, v in os.environ.items() if k != "RUN_NAME"}
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-S", "-c", INSIDE, *command],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(witness)},
        capture_output=True,
        text=True,
    )
    assert not log.exists(), log.read_text()
    return done


def succeeds(done: Finished) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def needs_namespaces() -> None:
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"]).returncode:
        pytest.skip("no network namespaces here: unshare --net needs root or user namespaces")


def test_it_is_cut_off_and_watched(tmp_path: Path) -> None:
    """So that the tests below say something."""
    (tmp_path / "project").mkdir()
    names = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert cut_off(tmp_path / "project", "-c", names).stdout == "['lo']\n"
    ask = "import socket; socket.getaddrinfo('nowhere.invalid', 80)"
    with pytest.raises(AssertionError, match=r"nowhere\.invalid"):
        cut_off(tmp_path / "project", "-c", ask)


def test_a_run_in_every_mode(render: Render, tmp_path: Path, task: Task) -> None:
    project, rendered = tmp_path / "project", render(trackers=["tensorboard"], task=task.name)
    shutil.copytree(rendered, project)
    succeeds(cut_off(project, "train.py", "model=dryrun", "training=dryrun", "name=a"))
    succeeds(cut_off(project, "train.py", "mode=evaluate", "checkpoint=runs/a"))
    examples = Path(__file__).parent / "examples" / task.name
    succeeds(
        cut_off(project, "train.py", f"mode={task.mode}", "checkpoint=runs/a", f"input={examples}")
    )


def test_copy_and_update_from_a_local_template(tmp_path: Path) -> None:
    template, project = tmp_path / "template", tmp_path / "project"
    copy_template(template)
    succeeds(cut_off(tmp_path, "-m", "copier", "copy", "--defaults", str(template), str(project)))
    git(project, "init", "-q")
    commit(project, "Rendered")
    preset = template / "template" / "conf" / "training" / "fastrun.yaml"
    substitute(preset, r"iter_num: \d+", "iter_num: 1234")
    commit(template, "Longer")
    git(template, "tag", "v0.2.0")
    succeeds(cut_off(project, "-m", "copier", "update", "--defaults"))
    assert "iter_num: 1234" in (project / "conf" / "training" / "fastrun.yaml").read_text()
