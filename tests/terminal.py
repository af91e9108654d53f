"""What a terminal shows: a command in a pseudo-terminal, drawn by a terminal emulator."""

import os
import pty
import select
import struct
import subprocess
import time
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pyte

LINES = 50


class Terminal:
    """Runs a command; `frames` has the screens it showed, `lines` the current screen.

    Presses Enter once for each question that contains `prompt`.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        columns: int,
        *,
        prompt: str = "",
        **environment: str,
    ) -> None:
        self.screen = pyte.Screen(columns, LINES)
        stream = pyte.ByteStream(self.screen)
        ours, theirs = pty.openpty()
        ioctl(ours, TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        variables = kept | {"TERM": "xterm-256color"} | environment
        process = subprocess.Popen(
            command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=variables
        )
        os.close(theirs)
        self.frames: list[list[str]] = []
        self.raw = b""
        drawn, answered = time.monotonic(), 0
        while True:
            ready, _, _ = select.select([ours], [], [], 0.05)
            try:
                got = os.read(ours, 65536) if ready else b""
            except OSError:  # the last process has closed it
                break
            self.raw += got
            stream.feed(got)
            if prompt and not ready and self.raw.count(prompt.encode()) > answered:
                answered += 1
                os.write(ours, b"\r")
            if time.monotonic() - drawn > 0.1:
                drawn = time.monotonic()
                self.frames.append(self.lines)
        os.close(ours)
        self.status = process.wait(60)

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without trailing spaces and trailing empty lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    def styles(self, text: str) -> set[str]:
        """The colours, and bold, of a text where the screen first shows it."""
        row = next(i for i, line in enumerate(self.screen.display) if text in line)
        column = self.screen.display[row].index(text)
        cells = [self.screen.buffer[row][column + i] for i in range(len(text))]
        return {cell.fg for cell in cells} | {"bold" for cell in cells if cell.bold}
