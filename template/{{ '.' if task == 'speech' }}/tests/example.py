"""An example file for the tests of mode=recognize."""

from pathlib import Path

import numpy as np
import soundfile


def write_example(folder: Path) -> Path:
    """A file that mode=recognize reads: a second of a tone."""
    soundfile.write(folder / "tone.wav", np.sin(np.arange(8000)) / 2, 8000)
    return folder / "tone.wav"
