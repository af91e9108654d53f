"""An example file for the tests of mode=recognize."""

from pathlib import Path


def write_example(folder: Path) -> Path:
    """A file that mode=recognize reads: two points, one of them with its answer."""
    (folder / "points.csv").write_text("x,y,spiral\n0.5,0.1,first\n-0.5,-0.1,\n")
    return folder / "points.csv"
