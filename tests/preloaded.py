"""Runs train.py in a fork of a process that has imported its libraries, which saves seconds.

The project's own modules are imported anew. A command that depends on what Python does as it
starts (another interpreter, -W, PYTHON… or OMP_… variables) is to be run in a process of its own.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

LIBRARIES = (
    *("hydra.main", "hydra._internal.hydra", "pydantic", "yaml", "rich.progress"),
    *("torch", "torch._dynamo", "torch.distributed.launcher.api", "torch.utils.data"),
    *("safetensors.torch", "matplotlib.figure", "soundfile", "soxr", "jiwer", "PIL.Image"),
)
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
        if arguments[0] != "train.py" or not self.lock.acquire(blocking=False):
            return None
        try:
            if not self.server:
                self.started_with = _of_the_start(os.environ)
                self.socket, theirs = socket.socketpair()
                command = [sys.executable, __file__, str(theirs.fileno())]
                self.server = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
                theirs.close()
            if _of_the_start(environment) != self.started_with:
                return None
            return self._run(arguments, cwd, environment)
        finally:
            self.lock.release()

    def _run(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        request = json.dumps([list(arguments), str(cwd), environment]).encode()
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
            files = [file.fileno() for file in opened]
            socket.send_fds(self.socket, [len(request).to_bytes(8, "big")], files)
            self.socket.sendall(request)
            if not (answer := self.socket.recv(16)):
                raise RuntimeError("the process with the libraries has ended")
            status = int(answer)
            texts = []
            for file in opened:
                file.seek(0)
                texts.append(io.TextIOWrapper(file, "utf-8").read())
        return subprocess.CompletedProcess(list(arguments), status, *texts)


def serve(number: int) -> list[str]:
    """Fork for each command. Returns its arguments, in the fork only."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=number) as connection:
        while True:
            size, files, _, _ = socket.recv_fds(connection, 8, 2)
            if not size:
                os._exit(0)
            request = b""
            while len(request) < int.from_bytes(size, "big"):
                request += connection.recv(1 << 16)
            arguments, cwd, environment = json.loads(request)
            while True:
                restarted, restart = os.pipe()
                if not (pid := os.fork()):
                    for file, standard in zip(files, (1, 2), strict=True):
                        os.dup2(file, standard)
                        os.close(file)
                    os.chdir(cwd)
                    os.environ.clear()
                    os.environ.update(environment)
                    os.execv = partial(_fork_again, restart)  # type: ignore[assignment]
                    return list(arguments)
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
                arguments, cwd, environment = json.loads(again)
            for file in files:
                os.close(file)
            connection.sendall(str(status).encode())


def _fork_again(pipe: int, _: str, arguments: Sequence[str]) -> None:
    """In place of os.execv: the command goes on in another fork."""
    request = [arguments[1:], str(Path.cwd()), dict(os.environ)]
    os.write(pipe, json.dumps(request).encode())
    os._exit(0)


if __name__ == "__main__":
    sys.argv = serve(int(sys.argv[1]))
    sys.path[0] = str(Path(sys.argv[0]).absolute().parent)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = str(Path(sys.argv[0]).absolute())
    exec(compile(Path(main.__file__).read_text(), main.__file__, "exec"), main.__dict__)
