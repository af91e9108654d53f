"""The task third, as the shared tests know it."""

import random
from pathlib import Path

from . import OwnData, Task


def scatter(folder: Path) -> None:
    """Write corners.csv: points left and right of a line."""
    chance = random.Random(1)
    points = [(chance.uniform(-1, 1), chance.uniform(-1, 1)) for _ in range(200)]
    lines = [f"{x},{y},{'left' if x < 0 else 'right'}\n" for x, y in points]
    (folder / "corners.csv").write_text("".join(lines))


TASK = Task(
    name="third",
    words=r"\bspiral|\bperceptron",
    metric="accuracy",
    embedded="spirals",
    tested=200,
    small={"data.items.train": 96, "data.items.valid": 7, "data.items.test": 20},
    seed="data.seed",
    own="table",
    own_data=OwnData(
        name="corners",
        write=scatter,
        is_learned=lambda metrics: metrics["accuracy"] >= 0.9,
        spoil="sed '3s/,/;/g; 7s/left/lift/; 7s/right/lift/' corners.csv > flawed.csv",
        spoiled="data=table data.train=flawed.csv",
        mended_by={"sed"},
    ),
    parameters=r"33\d,\d{3}",
    network="Sequential",
    dropout="model.dropout",
    width="model.width",
    widths=("8", "64"),
    count="model.layers",
    flawed={
        "a misspelt key of a model": ("model", "widths: 4\n"),
        "another dataset's key": ("data", "kind: table\nnoise: 0.1\n"),
        "no scale": ("points", "scale: 0\n"),
    },
)
