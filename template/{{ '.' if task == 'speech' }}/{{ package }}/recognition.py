"""mode=recognize: read the symbols out of audio files."""

from functools import partial
from pathlib import Path

import torch
from soundfile import SoundFileError
from torch import nn

from .audio import audio_files, audio_problem, read_audio
from .config import Config
from .engine.errors import UserError
from .engine.inference import Row, recognize_files
from .evaluation import SHOWN, draw_spectrograms
from .model import decode
from .project import PROJECT


def recognize(cfg: Config, output_dir: Path) -> None:
    """Recognize the files and folders of cfg.input; print, write recognized.jsonl and .png."""
    recognize = partial(recognize_file, cfg=cfg)
    rows = recognize_files(PROJECT, cfg, output_dir, audio_files, recognize)
    rows.sort(key=lambda row: row["probability"])
    cells = (
        (
            read_audio(Path(row["audio"]), cfg.model.encoder.sample_rate),
            f"{row['text']}\n{100 * row['probability']:.0f} % sure\n{row['audio']}",
            None,
        )
        for row in rows[:SHOWN]
    )
    title = f"{min(SHOWN, len(rows))} of {len(rows)} files, the least sure first"
    draw_spectrograms(cfg, output_dir / "recognized.png", title, cells)


def recognize_file(model: nn.Module, path: Path, source: Path, cfg: Config) -> tuple[Row, str]:
    """The row of one file and its text; `seconds` are those at which its symbols start.

    `probability` is that of the best path, as a geometric mean per symbol.
    Raises UserError for a file that cannot be read.
    """
    encoder = cfg.model.encoder
    frames_per_second = encoder.sample_rate / encoder.hop_samples / encoder.subsampling
    if problem := audio_problem(str(path)):
        raise UserError(problem)
    try:
        samples = read_audio(path, encoder.sample_rate)
    except SoundFileError:
        raise UserError(f"{path}, its audio is damaged") from None
    device = next(model.parameters()).device
    audio = torch.from_numpy(samples)[None].to(device)
    log_probs, frames = model(audio, torch.tensor([audio.shape[1]], device=device))
    symbols = decode(log_probs, frames, cfg.data.vocabulary)[0]
    text = "".join(symbol for symbol, _ in symbols)
    seconds = [round(frame / frames_per_second, 2) for _, frame in symbols]
    sure = log_probs[0, : int(frames[0])].amax(dim=-1).sum() / max(1, len(symbols))
    row = {"audio": str(path), "text": text, "seconds": seconds}
    return row | {"probability": round(float(sure.exp()), 4)}, text
