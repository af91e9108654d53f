"""What must hold before a run starts, found without torch. Each problem names its file and line."""

from pathlib import Path

from .audio import Recording, audio_files, audio_problem, audio_seconds, read_manifest
from .config import Config
from .config.data import Manifest
from .config.model import Encoder
from .engine.manifest import Goal

# what evaluation.measure returns, and which way each is better
METRICS: dict[str, Goal] = {"loss": "minimize", "cer": "minimize"}


def check_data(cfg: Config) -> list[str]:
    """Problems of the data that this mode reads."""
    if not isinstance(cfg.data, Manifest) or cfg.mode == "recognize":
        return []
    splits: dict[str, tuple[str, ...]] = {
        "train": ("train", "valid"),
        "evaluate": (cfg.data.held_out,),
        "check": ("train", "valid", "test"),
    }
    headers = None if cfg.mode == "check" else cfg.data.check_headers
    problems = []
    for split in splits[cfg.mode]:
        problems += check_manifest(split, cfg.data, cfg.model.encoder, headers)
    return problems


def check_manifest(split: str, data: Manifest, encoder: Encoder, headers: int | None) -> list[str]:
    """Problems of one manifest: every line, every file's existence, so many files' headers.

    `headers` is None for those of all files.
    """
    path = Path(getattr(data, split))
    if not path.is_file():
        return [f"data.{split} = {path}: no such file; expected JSON Lines (see conf/data)"]
    try:
        recordings, problems = read_manifest(path, data.vocabulary)
    except UnicodeDecodeError:
        return [f"data.{split} = {path}: not UTF-8 text; expected JSON Lines (see conf/data)"]
    if not recordings and not problems:
        return [f"data.{split} = {path}: no line in it; expected JSON Lines (see conf/data)"]
    step = -(-len(recordings) // headers) if headers else 1
    for i, recording in enumerate(recordings):
        problem = None
        if i % step == 0 or not recording.audio.is_file():
            problem = audio_problem(recording.audio) or length_problem(recording, encoder)
        if problem:
            problems.append(f"{path}:{recording.line}: {problem}")
    # a file that is no manifest at all must not hide what else is wrong
    more = [f"{path}: … and {len(problems) - 5} more lines"] if len(problems) > 5 else []
    return problems[:5] + more


def length_problem(recording: Recording, encoder: Encoder) -> str | None:
    """CTC needs a frame for each symbol: a longer text would teach nothing."""
    frames_per_second = encoder.sample_rate / encoder.hop_samples / encoder.subsampling
    frames = audio_seconds(recording.audio) * frames_per_second + 1
    if frames >= len(recording.text):
        return None
    return f"{len(recording.text)} symbols, but its audio is only {frames:.0f} encoder frames long"


def check_input(cfg: Config) -> list[str]:
    """Problems of what mode=recognize is to read."""
    return [problem for path in cfg.input or [] for problem in input_problems(Path(path))]


def input_problems(path: Path) -> list[str]:
    """Problems of one file or folder."""
    if not path.is_dir():
        problem = audio_problem(path)
        expected = "expected a wav, flac, ogg or mp3 file"
        return [f"input = {path}: {problem}; {expected}"] if problem else []
    files = audio_files(path)
    if not files:
        return [f"input = {path}: no wav, flac, ogg or mp3 file in this folder"]
    if all(problems := [audio_problem(file) for file in files]):
        return [f"input = {path}: {problem}" for problem in problems]
    return []
