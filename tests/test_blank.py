"""The blank task: what its example claims to learn, and tables made by awk and SQLite."""

import csv
import json
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .commands import Finished, Project, words_of_figure

pytestmark = [pytest.mark.slow, pytest.mark.task("blank")]

QUICK = "model=tiny training=fastrun training.num_workers=0"
CPU_SECONDS = 15  # ten on a machine of today
# points of the two spirals, far from 0 and each axis in its own unit
AWK = """
BEGIN {{
    srand({seed}); OFS = ","; print "id", "kilometres", "grams", "side"
    for (i = 0; i < {rows}; i++) {{
        r = sqrt(0.01 + 0.99 * rand()); a = 3.14159265 * (3 * r + i % 2)
        print "p" i, 0.001 * r * cos(a) - 7, 40000 + 500 * r * sin(a), i % 2 ? "out" : "in"
    }}
}}
"""
# prices of flats, with quotes where SQLite needs them
SQL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 599)
SELECT 'flat "' || i || '", north' AS name, 30 + (i * 37) % 170 AS "area, m²", 1 + i % 7 AS rooms,
       3000 * (30 + (i * 37) % 170) + 20000 * (1 + i % 7) + (i * 7919) % 2000 AS price FROM n
"""


def scatter(file: Path, rows: int, seed: int) -> None:
    program = AWK.format(seed=seed, rows=rows)
    file.write_bytes(subprocess.run(["awk", program], check=True, capture_output=True).stdout)


def evaluated(project: Project, run: str) -> dict[str, Any]:
    done = project.run(f"python train.py mode=evaluate checkpoint={run}")
    metrics = project.path / run / "evaluate" / project.name(done) / "metrics.json"
    return dict(json.loads(metrics.read_text()))


def recognized(project: Project, run: str, done: Finished) -> dict[str, Any]:
    """The only line of recognized.jsonl, with the rows of its table."""
    written = project.path / run / "recognize" / project.name(done) / "recognized.jsonl"
    (line,) = written.read_text().splitlines()
    row = dict(json.loads(line))
    with (project.path / row["table"]).open(newline="") as file:
        return row | {"cells": list(csv.DictReader(file))}


def test_the_spirals_are_learned_in_seconds_on_one_core(project: Project) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    project.run(f"python train.py {QUICK} name=quick", PYTHONUNBUFFERED="1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS
    assert evaluated(project, "runs/quick")["error"] <= 0.01


def test_points_of_awk_in_their_own_units_are_learned(project: Project, tmp_path: Path) -> None:
    scatter(project.path / "awk.csv", rows=2500, seed=1)
    describe = "python train.py mode=describe data=table data.train=awk.csv data.answer=side"
    said = project.run(describe).stdout
    assert "left out of data.features: id" in said
    project.run(f"python train.py {said.splitlines()[-1].split()[-1]} {QUICK} name=awk")
    assert evaluated(project, "runs/awk")["error"] <= 0.02

    # the scales are in the weights: the training table may be gone
    (project.path / "awk.csv").unlink()
    scatter(tmp_path / "new.csv", rows=300, seed=2)
    recognize = f"mode=recognize checkpoint=runs/awk input={tmp_path / 'new.csv'}"
    found = recognized(project, "runs/awk", project.run(f"python train.py {recognize}"))
    right = sum(cells["side"] == cells["prediction"] for cells in found["cells"])
    assert right >= 0.98 * 300
    assert found["error"] == pytest.approx(1 - right / 300)
    words = words_of_figure(project, recognize)
    assert {f"300 rows, {right} of 300 right", "kilometres", "grams", "in", "out"} <= set(words)


def test_prices_of_sqlite_are_predicted(project: Project, tmp_path: Path) -> None:
    if not shutil.which("sqlite3"):
        pytest.skip("sqlite3 is not installed")
    made = subprocess.run(["sqlite3", "-header", "-csv", ":memory:", SQL], capture_output=True)
    assert b'"flat ""0"", north"' in made.stdout
    (project.path / "flats.csv").write_bytes(made.stdout)
    describe = "python train.py mode=describe data=table data.train=flats.csv data.answer=price"
    classes = project.run(describe, status=2).stderr
    assert "different numbers in 600 rows" in classes
    project.run(classes.splitlines()[-1])
    project.run(f"python train.py data=flats {QUICK} name=flats")
    measured = evaluated(project, "runs/flats")
    assert measured["error"] < 3000, "the prices spread over 600,000"
    assert measured["loss"] < 0.001

    table = tmp_path / "offers.csv"
    table.write_bytes(b'\xef\xbb\xbf"rooms","area, m\xc2\xb2"\r\n"2","100"\r\n')
    done = project.run(f"python train.py mode=recognize checkpoint=runs/flats input={table}")
    (cells,) = recognized(project, "runs/flats", done)["cells"]
    assert float(cells["prediction"]) == pytest.approx(341_000, abs=5000)


def test_a_wrong_table_is_refused_with_its_line_and_without_torch(project: Project) -> None:
    scatter(project.path / "wrong.csv", rows=40, seed=1)
    text = (project.path / "wrong.csv").read_text()
    (project.path / "wrong.csv").write_text(f"{text}p40,NaN,1,in\np41,one,1,up\n")
    describe = "python train.py mode=describe data=table data.train=wrong.csv data.answer=side"
    assert "wrong.csv: kilometres holds no number in 2 of 42 rows" in project.run(describe).stdout
    columns = "data.answer=side data.features=[kilometres,grams] data.classes=[in,out]"
    command = f"train.py mode=train data=table data.train=wrong.csv {columns}"
    said = project.run(f"python -X importtime {command}", status=2).stderr
    assert "wrong.csv:42: kilometres = NaN: expected a number" in said
    assert "wrong.csv:43: kilometres = one: expected a number" in said
    assert "sed -i.bak '42d;43d;' wrong.csv" in said
    assert not re.search(r"\| +torch$", said, re.MULTILINE)
    recognize = "python train.py mode=recognize checkpoint=runs/quick input=wrong.csv"
    said = project.run(recognize, status=2).stderr
    assert "wrong.csv:1: no column x; there are id, kilometres" in said
