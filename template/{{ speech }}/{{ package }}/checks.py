"""Checks before a run starts, without torch. Each problem names its file and line."""

from collections.abc import Iterator
from pathlib import Path

from .audio import Recording, audio_files, audio_problem, read_header, read_manifest
from .config import Config
from .config.data import Manifest
from .config.model import Encoder
from .engine.config import Split
from .engine.parallel import for_each, is_file


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    if not isinstance(cfg.data, Manifest):
        return []
    problems = []
    for split in splits:
        problems += check_manifest(split, cfg, cfg.data)
    return problems


def check_manifest(split: str, cfg: Config, data: Manifest) -> list[str]:
    """Problems of one manifest: every line, every file's existence, a sample of the headers."""
    path = Path(getattr(data, split))
    if not path.is_file():
        return [f"data.{split} = {path}: no such file; expected JSON Lines (see conf/data)"]
    try:
        recordings, problems = read_manifest(path, data.vocabulary)
    except UnicodeDecodeError:
        return [f"data.{split} = {path}: not UTF-8 text; expected JSON Lines (see conf/data)"]
    if not recordings and not problems:
        return [f"data.{split} = {path}: no line in it; expected JSON Lines (see conf/data)"]
    is_there = for_each(is_file, [recording.audio for recording in recordings])
    looked_at = [r for r, there in zip(recordings, is_there, strict=True) if not there]
    looked_at += sample(recordings, cfg, data)
    found = {}
    for recording in looked_at:
        problem = audio_problem(recording.audio) or length_problem(recording, cfg.model.encoder)
        if problem:
            found[recording.line] = f"{path}:{recording.line}: {problem}"
    problems = [*problems, *(found[line] for line in sorted(found))]
    # a file that is not a manifest must not hide the other problems
    more = [f"{path}: … and {len(problems) - 5} more lines"] if len(problems) > 5 else []
    return problems[:5] + more


def sample(recordings: list[Recording], cfg: Config, data: Manifest) -> list[Recording]:
    """The recordings whose headers are read, spread evenly over the manifest."""
    headers = data.thorough_headers if cfg.mode == "check" else data.check_headers
    return recordings[:: -(-len(recordings) // headers) or 1] if headers else recordings


def data_notes(cfg: Config, splits: list[Split]) -> Iterator[str]:
    """Notes on data that the model does not see or that was not checked, a line each."""
    if not isinstance(cfg.data, Manifest):
        return
    rate = cfg.model.encoder.sample_rate
    for split in splits:
        recordings, _ = read_manifest(Path(getattr(cfg.data, split)), cfg.data.vocabulary)
        sampled = sample(recordings, cfg, cfg.data)
        if len(sampled) < len(recordings):
            yield f"data.{split}: {len(sampled)} of {len(recordings)} audio files are opened"
        headers = [read_header(recording.audio) for recording in sampled]
        rates = sorted({header.rate for header in headers if header.rate > rate})
        if rates:
            shown = " and ".join(f"{other}" for other in dict.fromkeys((rates[0], rates[-1])))
            of_model = f"{rate} Hz (model.encoder.sample_rate)"
            yield f"data.{split}: audio of {shown} Hz is read at {of_model}"
        if channels := max(header.channels for header in headers) - 1:
            yield f"data.{split}: audio of {channels + 1} channels is averaged to one"


def length_problem(recording: Recording, encoder: Encoder) -> str | None:
    """A problem if the text has more symbols than the audio has frames: CTC needs one for each."""
    frames_per_second = encoder.sample_rate / encoder.hop_samples / encoder.subsampling
    frames = read_header(recording.audio).seconds * frames_per_second + 1
    if frames >= len(recording.text):
        return None
    return f"{len(recording.text)} symbols, but its audio is only {frames:.0f} encoder frames long"


def check_input(cfg: Config) -> list[str]:
    """Problems of the files and folders that mode=recognize reads."""
    return [problem for path in cfg.input or [] for problem in input_problems(Path(path))]


def input_problems(path: Path) -> list[str]:
    """Problems of one file or folder."""
    if not path.is_dir():
        problem = audio_problem(str(path))
        expected = "expected a wav, flac, ogg or mp3 file"
        return [f"input = {path}: {problem}; {expected}"] if problem else []
    files = audio_files(path)
    if not files:
        return [f"input = {path}: no wav, flac, ogg or mp3 file in this folder"]
    if all(problems := [audio_problem(str(file)) for file in files]):
        return [f"input = {path}: {problem}" for problem in problems]
    return []
