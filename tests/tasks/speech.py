"""The task speech, as the shared tests know it."""

import json
import os
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from . import OwnData, Task

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VOICES = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us+f3", "en-gb+m7"]
SPEEDS = [130, 160, 190]  # words a minute
PITCHES = [35, 50, 65]


def speak_digits(folder: Path) -> None:
    """Write recordings.jsonl: each digit in several voices, speeds and pitches."""
    if not shutil.which("espeak-ng"):
        if "ESPEAK_EXPECTED" in os.environ:
            pytest.fail("espeak-ng is not installed")
        pytest.skip("espeak-ng is not installed")
    clips = folder / "clips"
    clips.mkdir()
    lines = []
    for i, (voice, speed, pitch, word) in enumerate(product(VOICES, SPEEDS, PITCHES, WORDS)):
        how = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(clips / f"{i}.wav")]
        subprocess.run(["espeak-ng", *how, word], check=True)
        lines.append(json.dumps({"audio": f"clips/{i}.wav", "text": word}))
    (folder / "recordings.jsonl").write_text("\n".join(lines))


TASK = Task(
    name="speech",
    words=r"speech|sample_?rate|encoder\b|audio|dialtone|transcri|vocabulary|\b(ctc|cer|wav)\b",
    metric="cer",
    embedded="dialtones",
    tested=400,
    small={"data.items.train": 96, "data.items.valid": 7, "data.items.test": 20},
    seed="data.seed",
    own="manifest",
    own_data=OwnData(
        name="recordings",
        write=speak_digits,
        is_learned=lambda metrics: metrics["cer"] <= 0.02,
        spoil=r"""
        head -99 recordings.jsonl | sed 's/"two"/"zwölf"/; 3s/clips/klips/; 7s/{/[/' > flawed.jsonl
        """,
        spoiled="data=manifest data.train=flawed.jsonl",
        mended_by={"sed"},
    ),
    parameters=r"36,\d{3},\d{3}",
    network="Recognizer",
    dropout="model.encoder.dropout",
    width="model.encoder.dim",
    widths=("16", "64"),
    count="model.encoder.layers",
    flawed={
        "a misspelt key of a model": ("model", "encoder:\n  dims: 4\n"),
        "layers as text": ("model", "encoder:\n  layers: many\n"),
        "another dataset's key": ("data", "kind: manifest\nrow_hz: [697.0]\n"),
    },
)
