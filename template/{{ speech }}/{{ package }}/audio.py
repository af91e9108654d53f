"""Audio files and manifests. No torch here: the checks before a run use it too."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from .engine.errors import UserError

Audio = npt.NDArray[np.float32]


def read_audio(path: Path, sample_rate: int) -> Audio:
    """Read a file as mono, float32 of shape [samples], at `sample_rate` Hz.

    Raises soundfile.SoundFileError for a file that is not audio.
    """
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Audio = soxr.resample(audio.mean(axis=1), rate, sample_rate)
    return mono


def audio_problem(path: Path) -> str | None:
    """What keeps this file from being read, if anything; looks at its header alone."""
    if not path.is_file():
        return f"{path} is a folder" if path.is_dir() else f"{path} does not exist"
    try:
        frames = soundfile.info(path).frames
    except soundfile.SoundFileError:
        return f"{path} is not audio that libsndfile can read"
    return None if frames else f"{path} holds no audio"


@cache
def audio_seconds(path: Path) -> float:
    """The length that the file's header tells."""
    return float(soundfile.info(path).duration)


def audio_files(folder: Path) -> list[Path]:
    """All files below the folder whose suffix names a format that soundfile reads."""
    formats = {name.lower() for name in soundfile.available_formats()} | {"aif", "oga"}
    return sorted(p for p in folder.rglob("*") if p.suffix.lower().removeprefix(".") in formats)


@dataclass(frozen=True)
class Recording:
    """One line of a manifest."""

    line: int
    audio: Path
    text: str
    duration: float | None
    """Seconds, where the manifest says them."""


def read_manifest(path: Path, vocabulary: str) -> tuple[list[Recording], list[str]]:
    """The good lines of a manifest, and what is wrong with the others."""
    recordings, problems = [], []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            audio, text, duration = entry["audio"], entry["text"], entry.get("duration")
        except (ValueError, KeyError, TypeError):
            problems.append(f'{path}:{number}: expected {{"audio": "FILE", "text": "…"}}')
            continue
        if not isinstance(audio, str) or not audio or not isinstance(text, str):
            problems.append(f'{path}:{number}: "audio" and "text" must be strings')
        elif duration is not None and not (type(duration) in (int, float) and duration > 0):
            problems.append(f'{path}:{number}: "duration" must be seconds, above 0')
        elif not text.strip():
            problems.append(f"{path}:{number}: the text is empty")
        elif unknown := sorted(set(text) - set(vocabulary)):
            shown = " ".join(map(repr, unknown))
            problems.append(f"{path}:{number}: not in data.vocabulary: {shown}")
        else:
            recordings.append(Recording(number, path.parent / audio, text, duration))
    return recordings, problems


class ManifestItems:
    """The items of one manifest: (audio, text) pairs."""

    def __init__(self, path: Path, vocabulary: str, read: Callable[[Path], Audio]) -> None:
        self.path = path
        self.recordings, _ = read_manifest(path, vocabulary)
        self.read = read

    def __len__(self) -> int:
        return len(self.recordings)

    def name(self, index: int) -> str:
        """What to call an item in a message."""
        return str(self.recordings[index].audio)

    def files(self) -> list[Path]:
        """The manifest and all recordings."""
        return [self.path, *(recording.audio for recording in self.recordings)]

    def length(self, index: int) -> float:
        """Seconds, as the manifest says; where it does not, as the file's header does."""
        recording = self.recordings[index]
        try:
            return recording.duration or audio_seconds(recording.audio)
        except soundfile.SoundFileError:
            raise damaged(recording.audio) from None

    def __getitem__(self, index: int) -> tuple[Audio, str]:
        """Audio, float32 of shape [samples], and what is said in it."""
        recording = self.recordings[index]
        try:
            return self.read(recording.audio), recording.text
        except soundfile.SoundFileError:
            raise damaged(recording.audio) from None


def damaged(path: Path) -> UserError:
    """What to raise where a file cannot be read to its end."""
    return UserError(f"{path}: its audio is damaged")
