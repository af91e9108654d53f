"""An example file for the tests of mode=recognize."""

from pathlib import Path

from PIL import Image


def write_example(folder: Path) -> Path:
    """A file that mode=recognize reads: a dark square on white."""
    picture = Image.new("L", (60, 40), "white")
    picture.paste(0, (20, 10, 40, 30))
    picture.save(folder / "square.png")
    return folder / "square.png"
