"""Audio files and manifests. No torch here: the checks before a run use it too."""

import json
import math
import os
import re
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from .config.data import Manifest
from .engine.config import Split
from .engine.errors import UserError

Audio = npt.NDArray[np.float32]

# libsndfile's log line for a truncated chunk
CUT = re.compile(r" *(?:data|Data Size|SSND|BODY|riff|Riff size) *: (\d+) \(should be \d+\)\n")
UNKNOWN_LENGTH = 2**31 - 2**12  # or more: the writing program did not know the length


class Header(NamedTuple):
    """The header of an audio file."""

    frames: int
    rate: int
    channels: int
    is_cut: bool
    """Whether the file is shorter than its header states."""

    @property
    def seconds(self) -> float:
        """The duration of the audio."""
        return self.frames / self.rate


def read_audio(path: Path, sample_rate: int) -> Audio:
    """Read a file as mono, float32 of shape [samples], at `sample_rate` Hz.

    Raises soundfile.SoundFileError for a file that is not audio, or that was cut off.
    """
    with soundfile.SoundFile(path) as file:
        audio = file.read(dtype="float32", always_2d=True)
        if is_cut(file) or len(audio) < file.frames:
            raise soundfile.SoundFileRuntimeError(f"{path} is shorter than its header says")
    mono = sum(audio.T) / audio.shape[1]  # audio.mean(axis=1) takes as long as decoding FLAC
    resampled: Audio = soxr.resample(mono, file.samplerate, sample_rate)
    return resampled


def is_cut(file: soundfile.SoundFile) -> bool:
    """Whether the file ends before the audio that its header announces."""
    return any(int(size) < UNKNOWN_LENGTH for size in CUT.findall(file.extra_info))


@cache
def read_header(path: str) -> Header:
    """The header of a file. Raises soundfile.SoundFileError for a file that is not audio."""
    with soundfile.SoundFile(path) as file:
        return Header(file.frames, file.samplerate, file.channels, is_cut(file))


def audio_problem(path: str) -> str | None:
    """Why this file cannot be read, or None; reads its header alone."""
    if not os.path.isfile(path):  # noqa: PTH113  unlike Path's, it never raises
        if len(path) > 1000:
            return f"{path[:100]}… ({len(path)} characters) does not exist"
        return f"{path} is a folder" if Path(path).is_dir() else f"{path} does not exist"
    try:
        header = read_header(path)
    except soundfile.SoundFileError:
        return f"{path} is not audio that libsndfile can read"
    if header.is_cut:
        return f"{path} is cut off: it is shorter than its header says"
    return None if header.frames else f"{path} holds no audio"


def audio_files(folder: Path) -> list[Path]:
    """All files below the folder whose suffix names a format that soundfile reads."""
    formats = {name.lower() for name in soundfile.available_formats()} | {"aif", "oga"}
    return sorted(p for p in folder.rglob("*") if p.suffix.lower().removeprefix(".") in formats)


class Recording(NamedTuple):
    """One line of a manifest."""

    line: int
    audio: str
    text: str
    duration: float | None
    """Seconds, if the manifest states them."""


def read_split(data: Manifest, split: Split) -> tuple[list[Recording], dict[int, str]]:
    """The recordings of a split, and the problems of its manifest's other lines."""
    path = data.path(split)
    recordings, problems = read_manifest(path, data.vocabulary)
    folder = str(path.parent)
    names = [recording.audio.removeprefix(folder) for recording in recordings]
    return data.select(split, recordings, names), problems


def read_manifest(path: Path, vocabulary: str | None) -> tuple[list[Recording], dict[int, str]]:
    """The valid lines of a manifest, and the problems of the others by their numbers.

    Without a vocabulary, texts may have any symbols.
    """
    status = path.stat()
    return _read_manifest(path, vocabulary, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=3)  # the checks before a run and the run read the same one
def _read_manifest(
    path: Path, vocabulary: str | None, size: int, changed: int
) -> tuple[list[Recording], dict[int, str]]:
    recordings: list[Recording] = []
    problems: dict[int, str] = {}
    folder = str(path.parent)
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    recordings.append(_recording(number, line, folder, vocabulary))
            except ValueError as problem:
                problems[number] = f"{path}:{number}: {problem}"
    return recordings, problems


def _recording(number: int, line: str, folder: str, vocabulary: str | None) -> Recording:
    try:
        entry = json.loads(line)
        audio, text, duration = entry["audio"], entry["text"], entry.get("duration")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('expected {"audio": "FILE", "text": "…"}') from None
    if not isinstance(audio, str) or not audio or not isinstance(text, str):
        raise ValueError('"audio" and "text" must be strings')
    if duration is not None and not (type(duration) in (int, float) and 0 < duration < math.inf):
        raise ValueError('"duration" must be seconds, above 0')
    if not text.strip():
        raise ValueError("the text is empty")
    if vocabulary is not None and (unknown := sorted(set(text).difference(vocabulary))):
        raise ValueError(f"not in data.vocabulary: {' '.join(map(repr, unknown))}")
    # not a Path: a long manifest would take twice the time and memory
    return Recording(number, audio if audio[0] == "/" else f"{folder}/{audio}", text, duration)


class ManifestItems:
    """The items of one split: (audio, text) pairs."""

    def __init__(self, data: Manifest, split: Split, read: Callable[[Path], Audio]) -> None:
        self.path = data.path(split)
        self.recordings, _ = read_split(data, split)
        self.read = read

    def __len__(self) -> int:
        return len(self.recordings)

    def files(self) -> list[str]:
        """The manifest and all recordings."""
        return [str(self.path), *(recording.audio for recording in self.recordings)]

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return self.recordings[index].audio

    def length(self, index: int) -> float:
        """Seconds, from the manifest or else from the file's header."""
        recording = self.recordings[index]
        try:
            return recording.duration or read_header(recording.audio).seconds
        except soundfile.SoundFileError:
            raise damaged(recording.audio) from None

    def __getitem__(self, index: int) -> tuple[Audio, str]:
        """Audio, float32 of shape [samples], and its transcript."""
        recording = self.recordings[index]
        try:
            return self.read(Path(recording.audio)), recording.text
        except soundfile.SoundFileError:
            raise damaged(recording.audio) from None


def damaged(path: str) -> UserError:
    """The error for a file that cannot be read to its end."""
    return UserError(f"{path}: its audio is damaged")
