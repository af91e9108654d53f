"""Devices, precision and seeds: thin names for what torch does."""

import os
import random
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from .errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that training.run.device means. Raises UserError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, available in there.items() if available), "cpu")
    elif not there.get(name, True):
        have = ", ".join([kind for kind, available in there.items() if available] + ["cpu", "auto"])
        raise UserError(
            f"training.run.device = {name}: this torch ({torch.__version__}) sees no such device\n"
            f"expected one of {have}"
        )
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """With precision bf16, the operations that torch lists as safe run in it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def move(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on the device; from pinned memory the copy does not wait."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed every source of randomness; a second job in this process starts as the first did."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
