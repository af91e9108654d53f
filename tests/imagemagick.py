"""Pictures made by ImageMagick, a program that is not ours."""

import shutil
import subprocess
from pathlib import Path

import pytest


def convert(*arguments: str) -> None:
    if not shutil.which("identify"):
        pytest.skip("ImageMagick is not installed")
    program = "magick" if shutil.which("magick") else "convert"  # as 7 and as 6 have it
    subprocess.run([program, *arguments], check=True)


def draw(text: str, path: Path, font: str, points: int, dark_on_light: bool) -> None:
    """Print with an edge of an eighth around it."""
    paper, ink = ("white", "black") if dark_on_light else ("black", "white")
    printed = ["-background", paper, "-fill", ink, "-font", font, "-pointsize", str(points)]
    edge = ["-bordercolor", paper, "-border", str(points // 8)]
    convert(*printed, f"label:{text}", *edge, str(path))
