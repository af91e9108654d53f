"""Runs train.py in a fork of a process that has imported its libraries, which saves seconds.

The project's own modules are imported anew. A command that depends on what Python does as it
starts (another interpreter, -W, PYTHON… or OMP_… variables) is to be run in a process of its own.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import multiprocessing.util
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("hydra.main", "hydra._internal.hydra", "pydantic", "yaml", "rich.progress"),
    *("torch", "torch._dynamo", "torch.distributed.launcher.api", "torch.utils.data"),
    *("safetensors.torch", "matplotlib.figure", "soundfile", "soxr", "jiwer", "PIL.Image"),
    *("optuna", "cmaes"),
)
# the system call, by machine; other machines start processes as usual
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine()) if sys.platform == "linux" else None
CLONE_PARENT = 0x8000
READ_AT_START = ("PYTHON", "OMP_", "MKL_", "LD_", "MPL", "CUDA_", "TORCH", "HOME", "LANG", "LC_")


def _of_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(READ_AT_START)}


class Preloaded:
    """The process with the libraries, started for the first command."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: subprocess.Popen[bytes] | None = None

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str]
    ) -> "subprocess.CompletedProcess[str] | None":
        """What `python ARGUMENTS` does; None if it needs a process of its own."""
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(self._held(arguments, environment)):
                return None
            opened = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
            files = [file.fileno() for file in opened]
            status = self._request([list(arguments), str(cwd), environment, False], files)
            texts = []
            for file in opened:
                file.seek(0)
                texts.append(io.TextIOWrapper(file, "utf-8").read())
        return subprocess.CompletedProcess(list(arguments), status, *texts)

    def start(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str], **options: Any
    ) -> "subprocess.Popen[str] | None":
        """Start `python ARGUMENTS` in a session of its own; None if it cannot be a fork."""
        with self._held(arguments, environment) as held:
            if not held or CLONE is None:
                return None
            options |= {"cwd": cwd, "env": environment, "stdin": subprocess.DEVNULL}
            return _Forked(self, arguments, start_new_session=True, text=True, **options)

    @contextlib.contextmanager
    def _held(self, arguments: Sequence[str], environment: dict[str, str]) -> Iterator[bool]:
        """Whether the process with the libraries takes this command."""
        if arguments[0] != "train.py" or not self.lock.acquire(blocking=False):
            yield False
            return
        try:
            if not self.server:
                self.started_with = _of_the_start(os.environ)
                self.socket, theirs = socket.socketpair()
                command = [sys.executable, __file__, str(theirs.fileno())]
                self.server = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
                theirs.close()
            yield _of_the_start(environment) == self.started_with
        finally:
            self.lock.release()

    def _request(self, request: object, files: list[int]) -> int:
        _send(self.socket, request, files)
        if not (answer := self.socket.recv(16)):
            raise RuntimeError("the process with the libraries has ended")
        return int(answer)


class _Forked(subprocess.Popen[str]):
    """A child of this process, as any other, whose libraries are imported already."""

    def __init__(self, preloaded: Preloaded, arguments: Sequence[str], **options: Any) -> None:
        self.preloaded = preloaded
        super().__init__(arguments, **options)

    def _execute_child(self, *given: Any) -> None:
        arguments, (cwd, environment), pipes = given[0], given[5:7], given[10:16]
        request = [list(arguments), str(cwd), environment, True]
        self.pid = self.preloaded._request(request, [pipes[3], pipes[5]])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _send(connection: socket.socket, request: object, files: list[int]) -> None:
    encoded = json.dumps(request).encode()
    socket.send_fds(connection, [len(encoded).to_bytes(8, "big")], files)
    connection.sendall(encoded)


def _receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """A request and its files; exits if there are none to come."""
    size, files, _, _ = socket.recv_fds(connection, 8, 64)
    if not size:
        os._exit(0)
    encoded = b""
    while len(encoded) < int.from_bytes(size, "big"):
        encoded += connection.recv(1 << 16)
    return json.loads(encoded), files


def _fork_for_parent() -> int:
    """os.fork, but the new process is a child of this one's parent."""
    python, system = ctypes.pythonapi, ctypes.PyDLL(None)
    after, ours = python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent
    python.PyOS_BeforeFork()
    pid = int(system.syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    (ours if pid else after)()
    assert pid >= 0
    return pid


def serve(number: int) -> list[str]:
    """Fork for each command. Returns its arguments, in the fork only."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=number) as connection:
        while True:
            request, files = _receive(connection)
            if background := request.pop():
                if not (pid := _fork_for_parent()):
                    os.setsid()
                    return _become(request, files)
                status = pid
            while not background:
                restarted, restart = os.pipe()
                if not (pid := os.fork()):
                    os.close(restarted)
                    os.execv = partial(_fork_again, restart)  # type: ignore[assignment]
                    return _become(request, files)
                os.close(restart)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.set_blocking(restarted, False)
                try:
                    again = os.read(restarted, 1 << 16)
                except BlockingIOError:  # a process that outlives its parent
                    again = b""
                os.close(restarted)
                if not again:
                    break
                request = json.loads(again)
            for file in files:
                os.close(file)
            connection.sendall(str(status).encode())


def _become(request: list[Any], files: list[int]) -> list[str]:
    """Take a command's output files, directory and environment; return its arguments."""
    arguments, cwd, environment = request
    for file, standard in zip(files, (1, 2), strict=True):
        os.dup2(file, standard)
        os.close(file)
    for name, number in ("stdout", 1), ("stderr", 2):
        # one that was opened on a file asks for its position, which a pipe does not have
        old, lines = getattr(sys, name), 1 if number == 2 else -1
        new = open(number, "w", lines, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    return list(arguments)


def _fork_again(pipe: int, _: str, arguments: Sequence[str]) -> None:
    """In place of os.execv: the command goes on in another fork."""
    request = [arguments[1:], str(Path.cwd()), dict(os.environ)]
    os.write(pipe, json.dumps(request).encode())
    os._exit(0)


def serve_spawns() -> bool:
    """Let multiprocessing fork where it would start Python anew, as long as this goes on.

    The forks are of a process that is as this one was when it began. Returns whether this is one.
    """
    ours, theirs = socket.socketpair()
    owner, real = os.getpid(), multiprocessing.util.spawnv_passfds

    def spawn(path: bytes, arguments: Sequence[Any], files: Sequence[int]) -> int:
        place = arguments.index("-c") + 1
        code = str(arguments[place])
        if os.getpid() != owner or "resource_tracker import" in code:
            return real(path, arguments, files)
        targets = [0, 1, 2, *files]
        mask = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))]
        request = [
            code,
            ["-c", *arguments[place + 1 :]],
            str(Path.cwd()),
            dict(os.environ),
            mask,
            targets,
        ]
        _send(ours, request, targets)
        return int(ours.recv(16))

    if os.fork():
        theirs.close()
        multiprocessing.util.spawnv_passfds = spawn  # type: ignore[assignment]
        return False
    ours.close()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        (code, arguments, cwd, environment, mask, targets), files = _receive(theirs)
        if not (pid := _fork_for_parent()):
            break
        for file in files:
            os.close(file)
        theirs.sendall(str(pid).encode())
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 1000) for file in files]
    os.closerange(0, 1000)
    for file, target in zip(high, targets, strict=True):
        os.dup2(file, target, inheritable=target < 3)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.modules["__main__"] = types.ModuleType("__main__")
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    exec(code, {})
    return True


def leave(status: list[int]) -> None:
    """End without tearing the libraries down, which takes longer than many a command."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # as Python reports it
    if status:
        os._exit(status[0])


if __name__ == "__main__":
    status: list[int] = []
    atexit.register(leave, status)  # the first one registered is called last
    sys.argv = serve(int(sys.argv[1]))
    several = re.search("--multirun|devices=", " ".join(sys.argv)) or "RUN_NODES" in os.environ
    # forks of jobs with several threads each took minutes
    is_narrow = os.environ.get("OMP_NUM_THREADS") == "1"
    try:
        if not (CLONE and is_narrow and several and serve_spawns()):
            sys.path[0] = str(Path(sys.argv[0]).absolute().parent)
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            main.__file__ = str(Path(sys.argv[0]).absolute())
            exec(compile(Path(main.__file__).read_text(), main.__file__, "exec"), main.__dict__)
        status.append(0)
    except SystemExit as leaving:
        status.append(leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code)))
        raise
