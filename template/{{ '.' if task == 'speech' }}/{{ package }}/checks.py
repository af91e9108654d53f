"""Checks before a run starts, without torch. Problems name file and line.

The last one of a list adds the command that fixes them.
"""

import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from .audio import Recording, audio_files, audio_problem, read_header, read_manifest, read_split
from .config import Config
from .config.data import Manifest
from .config.model import FrontEnd
from .engine.config import Split
from .engine.errors import UserError
from .engine.parallel import for_each
from .own_files import command, fold_problems

log = logging.getLogger(__name__)

MOST_SHOWN = 5  # problems of a manifest
MOST_DELETED = 40  # lines that one command deletes; repeat it for more


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    if not isinstance(cfg.data, Manifest):
        return []
    keys = dict.fromkeys(map(cfg.data.key, splits))
    return [problem for key in keys for problem in check_manifest(key, cfg, cfg.data)]


def find_vocabulary(cfg: Config) -> str:
    """The symbols of all texts: first those in data.vocabulary, in its order. Raises UserError."""
    data, symbols, left_out = cfg.data, set(), dict[Path, int]()
    if not isinstance(data, Manifest):
        own = command("mode=describe", "data=manifest", "data.train=FILE")
        raise UserError(f"data = {data.kind}: expected your own recordings\n{own}")
    for split in get_args(Split):
        try:
            recordings, broken = read_manifest(data.path(split), vocabulary=None)
        except (OSError, UnicodeDecodeError):
            raise UserError(*check_data(cfg, [split])) from None
        symbols |= {symbol for recording in recordings for symbol in recording.text}
        left_out[data.path(split)] = len(broken)
    if not symbols:
        raise UserError(*check_data(cfg, list(get_args(Split))))
    for path, count in left_out.items():
        if count:
            log.warning("%s: %d lines are left out", path, count)
    known = data.vocabulary
    return "".join(sorted(symbols, key=lambda s: (known.index(s) if s in known else len(known), s)))


def check_manifest(key: Split, cfg: Config, data: Manifest) -> list[str]:
    """Problems of one manifest: every line, every file's existence, a sample of the headers."""
    path, fewest = data.path(key), data.count_splits(key)
    expected = f"expected JSON Lines (see conf/data)\n{command(f'data.{key}=FILE')}"
    if not path.is_file():
        return [f"data.{key} = {path}: no such file; {expected}"]
    try:
        recordings, found = read_manifest(path, data.vocabulary)
    except UnicodeDecodeError:
        return [f"data.{key} = {path}: not UTF-8 text; {expected}"]
    count = len({recording.audio for recording in recordings})
    if count < fewest and not found:
        few = f"{count} recordings; expected at least {fewest}, one for each split"
        return [f"data.{key} = {path}: {few}\n{command(f'data.{key}=FILE')}"]
    too_many = fold_problems(data, data.test, {str(path): count}) if key == "train" else []
    if too_many and count:
        return too_many
    is_there = for_each(os.path.isfile, [recording.audio for recording in recordings])
    looked_at = [r for r, there in zip(recordings, is_there, strict=True) if not there]
    looked_at += sample(recordings, cfg, data)
    problems = dict(found)
    for recording in looked_at:
        problem = audio_problem(recording.audio) or length_problem(recording, cfg.model.encoder)
        if problem:
            problems[recording.line] = f"{path}:{recording.line}: {problem}"
    lines = sorted(problems)
    # a file that is not a manifest must not hide the other problems
    shown = [problems[line] for line in lines[:MOST_SHOWN]]
    shown += [f"{path}: … and {len(lines) - MOST_SHOWN} more lines"] if lines[MOST_SHOWN:] else []
    if any("data.vocabulary" in problem for problem in problems.values()):
        shown[-1] += (
            f"\nto set data.vocabulary to the symbols of the texts:\n{command('mode=describe')}"
        )
    if lines:
        script = "".join(f"{line}d;" for line in lines[:MOST_DELETED])
        delete = shlex.join(["sed", "-i.bak", script, str(path)])
        shown[-1] += f"\nto delete these lines, and keep {path.name}.bak: {delete}"
    return shown


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
        recordings, _ = read_split(cfg.data, split)
        if cfg.data.key(split) != split:
            yield f"data.{split}: {len(recordings)} lines of {cfg.data.train}, held out"
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


def length_problem(recording: Recording, encoder: FrontEnd) -> str | None:
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
