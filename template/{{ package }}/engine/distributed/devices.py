"""Devices, precision and determinism: thin wrappers around torch."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..config import Config, Run, Training
from ..errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that training.run.device names. Raises UserError if it is not available."""
    there = [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()] + ["cpu"]
    if name not in (*there, "auto"):
        raise UserError(
            f"training.run.device = {name}: this torch ({torch.__version__}) sees no such device\n"
            f"expected one of {', '.join(there)}, auto"
        )
    return torch.device(there[0] if name == "auto" else name)


def set_up_device(cfg: Config) -> torch.device:
    """Set up this process's device and return it. Raises UserError like pick_device."""
    run, freed_mb = cfg.training.run, cfg.engine.keep_freed_mb
    device = pick_device(run.device)
    libc = ctypes.CDLL(None)
    if freed_mb is not None and hasattr(libc, "mallopt"):  # glibc's
        # returning freed memory to the system between steps costs a CPU 5 % or more
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, its maximum
        libc.mallopt(-1, freed_mb * 2**20)  # M_TRIM_THRESHOLD
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # so that seeds reach it
    if run.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)  # imports the compiler: 1 s
    torch.set_float32_matmul_precision("high" if run.precision == "tf32" else "highest")
    return device


def peak_memory(device: torch.device) -> dict[str, float]:
    """The peak memory of this process in GB: the GPU's, else the machine's."""
    if device.type == "cuda":
        return {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def cores_here() -> int:
    """The number of cores that this process may use; a cluster may allot some of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_count(run: Run) -> int:
    """The number of processes in training.run.devices. Raises UserError if devices are missing."""
    kind = pick_device(run.device).type
    # several processes on a CPU are for tests only: `auto` means one
    there = {"cuda": torch.cuda.device_count(), "cpu": cores_here()}.get(kind, 1)
    if run.devices == "auto":
        return there if kind == "cuda" else 1
    if run.devices > there:
        unit = {"cuda": "GPUs", "cpu": "cores"}.get(kind, f"{kind} devices")
        expected = f"expected at most {there}, the {unit} here"
        raise UserError(f"training.run.devices = {run.devices}: {expected}")
    return run.devices


def batch_size_problems(training: Training, count: int) -> Iterator[str]:
    """A problem if `count` processes cannot share training.loader.batch_size evenly."""
    batch_size, accumulate = training.loader.batch_size, training.run.accumulate
    if batch_size % (accumulate * count):
        expected = f"{accumulate * count}, run.accumulate ({accumulate}) times {count} processes"
        yield f"training.loader.batch_size = {batch_size}: expected a multiple of {expected}"


def precision_problems(run: Run) -> Iterator[str]:
    """A problem if the device does not support training.run.precision."""
    kind, there = pick_device(run.device).type, run.precision in ("bf16", "fp16")
    if kind == "cuda" and run.precision != "fp16":
        there = torch.cuda.is_bf16_supported(including_emulation=False)  # same GPUs as tf32
    if not there and run.precision != "fp32":
        cuda = kind == "cuda"
        name = torch.cuda.get_device_name() if cuda else f"the device {kind}"
        expected = "expected fp32 or fp16" if cuda else "expected fp32"
        yield f"training.run.precision = {run.precision}: {name} does not have it; {expected}"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """With precision bf16 or fp16, run the operations that torch lists as safe in it."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtype=kinds.get(precision), enabled=precision in kinds)


def move(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on the device; the copy from pinned memory is asynchronous."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
