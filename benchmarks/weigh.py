"""What a rendered project weighs: files and lines of every text file, by part; make weigh.

Exits with status 1 where a rendering exceeds its budget.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import copier

from tests.commands import FULL, NAMED

ROOT = Path(__file__).parent.parent
NOTHING: dict[str, Any] = {"trackers": [], "slurm": False, "parts": []}
RENDERINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "smallest": NOTHING,
    "largest": FULL,
}
# files, lines in all, lines of the engine
BUDGETS = {
    "default": (121, 10450, 6657),
    "smallest": (109, 8966, 5848),
    "largest": (157, 15059, 10343),
}
PARTS = ("engine", "user's Python", "conf", "tests", "tools", "the rest")


def part(file: Path, package: str) -> str:
    """Which part of the project a file belongs to."""
    top, *below = file.parts
    if top == package:
        return "engine" if below[0] == "engine" else "user's Python"
    return top if top in PARTS else "the rest"


def weigh(answers: dict[str, Any]) -> tuple[int, Counter[str]]:
    """Files, and lines by part, of a rendering."""
    with tempfile.TemporaryDirectory() as folder:
        copier.run_copy(
            str(ROOT), folder, NAMED | answers, vcs_ref="HEAD", defaults=True, quiet=True
        )
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        lines: Counter[str] = Counter()
        for file in files:
            count = len(file.read_text("utf-8").splitlines())
            lines[part(file.relative_to(folder), "my_project")] += count
    return len(files), lines


def table() -> tuple[list[str], bool]:
    """The lines of the table, and whether every rendering is within its budget."""
    rows = ["| rendering | files | lines | " + " | ".join(PARTS) + " |"]
    rows.append("|---" * (3 + len(PARTS)) + "|")
    fits = True
    for name, answers in RENDERINGS.items():
        files, lines = weigh(answers)
        most_files, most, most_engine = BUDGETS[name]
        fits &= files <= most_files and lines.total() <= most and lines["engine"] <= most_engine
        by_part = " | ".join(f"{lines[it]:,}" for it in PARTS)
        rows.append(f"| {name} | {files} | {lines.total():,} | {by_part} |")
        rows.append(f"| at most | {most_files} | {most:,} | {most_engine:,} |" + "  |" * 5)
    return rows, fits


if __name__ == "__main__":
    rows, fits = table()
    print("\n".join(rows))
    sys.exit(0 if fits else 1)
