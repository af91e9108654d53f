"""Dial tones made by SoX, a program that is not ours."""

import shutil
import subprocess
from pathlib import Path

import pytest

KEYPAD = "123A456B789C*0#D"
ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477, 1633)


def sox(*arguments: str) -> None:
    if not shutil.which("sox"):
        pytest.skip("sox is not installed")
    subprocess.run(["sox", *arguments], check=True)


def dial(keys: str, path: Path, rate: int, channels: int) -> None:
    """Each key 0.1 s of two tones, then 0.1 s of silence."""
    parts = []
    for i, key in enumerate(keys):
        row, column = divmod(KEYPAD.index(key), 4)
        part = path.with_suffix(f".{i}.wav")
        tones = ["sine", str(ROWS[row]), "sine", str(COLUMNS[column])]
        mix = ["remix", *["1,2"] * channels]
        wav = ["-r", str(rate), "-c", "2", "-b", "16", str(part)]
        effects = ["synth", "0.1", *tones, "gain", "-6", *mix, "pad", "0", "0.1"]
        sox("-n", *wav, *effects)
        parts.append(str(part))
    sox(*parts, str(path))
    for made in parts:
        Path(made).unlink()
