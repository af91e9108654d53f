"""Parameters, arithmetic of a token, and the share of the device's peak that a run reaches."""

import json
import logging
import re
import statistics
from pathlib import Path

import torch
import torch.distributed as dist

from .config import Config
from .engine.signals import Stop
from .model import build_model
from .training import train

# dense operations a second in bf16 (V100: fp16), in 1e12, by the makers' data sheets
PEAKS = {
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "A100": 312,
    "A10": 125,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "V100": 125,
}
log = logging.getLogger(__name__)


def train_and_report(cfg: Config, run_dir: Path, stop: Stop) -> float:
    """Train; log the arithmetic of a token before, the speed and MFU after."""
    _, flops = count_flops(cfg)
    log.info("%.4g million FLOPs for each trained token", flops / 1e6)
    objective = train(cfg, run_dir, stop)
    if speeds := read_speeds(run_dir / "metrics.jsonl"):
        tokens = statistics.median(speeds) * cfg.model.context
        log.info("%.4g tokens a second, %s", tokens, format_rate(flops * tokens))
    return objective


def count_flops(cfg: Config) -> tuple[int, int]:
    """The parameters, and the operations that train a token (Chowdhery et al. 2022, appendix B).

    6 for each parameter of a matrix product, and those of attention over a full context.
    """
    with torch.device("meta"):
        model = build_model(cfg)
    parameters = sum(it.numel() for it in model.parameters())
    looked_up = 0 if cfg.model.tied else model.get_parameter("embedding.weight").numel()
    attention = 12 * cfg.model.layers * cfg.model.dim * cfg.model.context
    return parameters, 6 * (parameters - looked_up) + attention


def read_speeds(metrics: Path) -> list[float]:
    """The items a second of each log interval, without the first, which warms up."""
    rows = map(json.loads, metrics.read_text().splitlines() if metrics.exists() else [])
    return [row["items_per_second"] for row in rows if row["split"] == "train"][1:]


def format_rate(rate: float) -> str:
    """Operations a second and, where the GPU's peak is known, their share of it (MFU)."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((it for gpu, it in PEAKS.items() if re.search(rf"\b{gpu}\b", name)), None)
    devices = dist.get_world_size() if dist.is_initialized() else 1
    share = f", {100 * rate / devices / peak / 1e12:.1f} % of the bf16 peak (MFU)" if peak else ""
    return f"{rate / 1e12:.3g} TFLOP/s{share}"
