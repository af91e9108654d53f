"""mode=recognize: read the symbols out of audio files."""

import json
import logging
from pathlib import Path

import torch
from soundfile import SoundFileError

from .audio import audio_files, audio_problem, read_audio
from .config import Config
from .engine.checkpoints import load_model
from .engine.devices import autocast, set_up_device
from .model import build_model, decode

log = logging.getLogger(__name__)


@torch.inference_mode()
def recognize(cfg: Config, checkpoint: Path, output_dir: Path) -> None:
    """Print what is heard in the files and folders of cfg.input; write it to recognized.jsonl."""
    encoder = cfg.model.encoder
    frames_per_second = encoder.sample_rate / encoder.hop_samples / encoder.subsampling
    device = set_up_device(cfg.training.run)
    model = load_model(build_model(cfg), checkpoint).to(device).eval()

    sources = map(Path, cfg.input or [])
    files = [file for s in sources for file in (audio_files(s) if s.is_dir() else [s])]
    width = max(len(str(path)) for path in files)
    output = output_dir / "recognized.jsonl"
    with output.open("w", encoding="utf-8") as lines:
        for path in files:
            # the check before the run has refused a folder with nothing to read in it
            if problem := audio_problem(str(path)):
                log.warning("skipped: %s", problem)
                continue
            try:
                heard_audio = read_audio(path, encoder.sample_rate)
            except SoundFileError:
                log.warning("skipped: %s, its audio is damaged", path)
                continue
            audio = torch.from_numpy(heard_audio)[None].to(device)
            samples = torch.tensor([audio.shape[1]], device=device)
            with autocast(device, cfg.training.run.precision):
                log_probs, frames = model(audio, samples)
            heard = decode(log_probs, frames, cfg.data.vocabulary)[0]
            text = "".join(symbol for symbol, _ in heard)
            seconds = [round(frame / frames_per_second, 2) for _, frame in heard]
            entry = {"audio": str(path), "text": text, "seconds": seconds}
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            log.info("%-*s  %s", width, path, text)
    log.info("written to %s", output)
