"""An example file for the tests of mode=generate."""

from pathlib import Path


def write_example(folder: Path) -> Path:
    """A file that mode=generate continues: the beginning of a function."""
    (folder / "begin.py").write_text("def main() ->")
    return folder / "begin.py"
