"""The vision task: what its example learns, and how much of print it reads."""

import json
import re
import subprocess
import time
from pathlib import Path

from tests.imagemagick import draw

FONTS = ["DejaVu-Sans", "DejaVu-Sans-Mono", "DejaVu-Serif", "DejaVu-Sans-Bold"]
FONTS += ["Liberation-Sans", "Liberation-Serif", "C059-Roman", "Z003-Medium-Italic"]
DIGITS = "0123456789"


def rows(project: Path, python: str) -> list[str]:
    """Of a rendered project: the time that model=tiny takes, its accuracy, and print."""
    train = [python, "train.py"]
    start = time.perf_counter()
    run(project, *train, "model=tiny", "training=fastrun", "name=tiny")
    took = time.perf_counter() - start
    run(project, *train, "mode=evaluate", "checkpoint=runs/tiny")
    (metrics,) = project.glob("runs/tiny/evaluate/*/metrics.json")
    accuracy = json.loads(metrics.read_text())["accuracy"]

    printed = project.with_name("printed")
    for i, font in enumerate(FONTS):
        for digit in DIGITS:
            for dark_on_light in (True, False):
                path = printed / digit / f"{font}-{dark_on_light}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(digit, path, font, 24 + 37 * (2 * i + dark_on_light) % 200, dark_on_light)
    recognize = [*train, "mode=recognize", "checkpoint=runs/tiny", f"input={printed}"]
    right = re.search(r"right: (\d+) of (\d+)", run(project, *recognize))
    assert right
    return [
        f"| vision: `model=tiny training=fastrun` | {took:.0f} s | 60 s |",
        f"| its accuracy, held-out split | {100 * accuracy:.1f} % | 97 % |",
        f"| printed digits read, eight fonts by ImageMagick | {right[1]} of {right[2]} | |",
    ]


def run(folder: Path, *command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
