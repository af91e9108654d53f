"""The task blank, as the shared tests know it."""

import csv
from pathlib import Path

from . import OwnData, Task


def write_flowers(folder: Path) -> None:
    """Write flowers.csv: Fisher's irises, their species and the herbarium's notes."""
    from sklearn.datasets import load_iris

    irises = load_iris()
    with (folder / "flowers.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["number", *irises.feature_names, "species"])
        for i, (sizes, kind) in enumerate(zip(irises.data, irises.target, strict=True)):
            table.writerow([f"no. {i}", *sizes, irises.target_names[kind]])


TASK = Task(
    name="blank",
    words=r"\bspiral|\bperceptron|flowers",
    metric="error",
    embedded="spirals",
    tested=1000,
    small={"data.items.train": 96, "data.items.valid": 7, "data.items.test": 20},
    seed="data.seed",
    own="table",
    own_data=OwnData(
        name="flowers",
        write=write_flowers,
        is_learned=lambda metrics: metrics["error"] <= 0.1,
        spoil=r"""
        sed '3s/,/;/; 7s/osa/ose/; 8s/osa/ose/; 20s/,[0-9.]*/,nan/' flowers.csv > flawed.csv
        """,
        spoiled="data=table data.train=flawed.csv data.answer=species",
        mended_by={"sed"},
    ),
    parameters=r"26\d,\d{3}",
    network="Perceptron",
    dropout="model.dropout",
    width="model.width",
    widths=("8", "64"),
    count="model.layers",
    flawed={
        "a misspelt key of a model": ("model", "widths: 4\n"),
        "another dataset's key": ("data", "kind: table\nnoise: 0.1\n"),
        "an unknown kind of answer": ("data", "kind: table\nanswer_kind: text\n"),
    },
)
