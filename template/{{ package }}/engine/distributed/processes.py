"""One process per device: torch's elastic agent starts them from inside the job.

Hydra composes once and one process owns the run's directory; the others get the finished config.
"""

import logging
import logging.config
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from .. import find_part
from ..config import Config
from ..errors import Stopped, UserError
from ..signals import Stop, block_signals_in_children, follow_parent
from .devices import cores_here, device_count, pick_device

Train = Callable[[Any, Path, Stop], float]

# words in the errors of gloo and NCCL
LOST_ANOTHER = re.compile("gloo|NCCL|DistBackendError", re.I)


def launch(train: Train, cfg: Config, run_dir: Path, stop: Stop) -> float:
    """Train in this process, or in one for each of several devices; return the objective.

    Raises UserError or RuntimeError with the error of the first process that failed.
    """
    settings = cfg.engine
    count = device_count(cfg.training.run)
    if count == settings.nodes == 1:
        return train(cfg, run_dir, stop)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # _failure reports it
    job_logging: Any = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    with tempfile.TemporaryDirectory() as folder:  # for the error files of the processes
        config = LaunchConfig(
            min_nodes=settings.nodes,
            max_nodes=settings.nodes,
            nproc_per_node=count,
            logs_specs=DefaultLogsSpecs(folder),
            run_id="run",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # any free port
            local_addr="localhost",
            max_restarts=0,  # the same command resumes, and a scheduler requeues
            signals_to_handle="SIGQUIT",  # Stop handles the others
            shutdown_timeout=settings.shutdown_seconds,
        )
        if settings.nodes > 1:
            cfg, run_dir, _store = find_part("distributed.nodes").meet(cfg, run_dir, config)
        try:
            with block_signals_in_children():
                results = elastic_launch(config, _process)(train, cfg, run_dir, stop, job_logging)
        except ChildFailedError as error:
            if stop.signal:  # while they were starting
                raise Stopped(stop.signal) from None
            raise _failure(error, count * settings.nodes) from None
    result = next(iter(results.values()))  # the same in each
    if result is None:
        raise Stopped(stop.signal or signal.SIGTERM)
    return float(result)


def _process(
    train: Train, cfg: Config, run_dir: Path, stop: Stop, job_logging: dict[str, Any]
) -> float | None:
    """Train in one of the processes; return the objective, or None if a stop was requested."""
    follow_parent(stop)
    logging.config.dictConfig(job_logging)
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if rank:
        logging.getLogger().setLevel(logging.WARNING)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter(f"process {rank}: %(message)s"))
    device = pick_device(cfg.training.run.device)
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores_here() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        return train(cfg, run_dir, stop)
    except Stopped:
        return None
    except RuntimeError as error:
        if LOST_ANOTHER.search(str(error)):
            time.sleep(1)  # torch's agent reports one process, and is to see the lost one first
        raise
    finally:
        dist.destroy_process_group()


def _failure(error: Any, count: int) -> Exception:
    """The error of the first process that failed, not of those that only lost contact with it."""
    found = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
    own = [item for item in found if not LOST_ANOTHER.search(str(item[1].message))]
    rank, failure = (own or found)[0]
    process, message = f"process {rank} of {count}", failure.message
    if not own:
        return UserError(f"{process} lost the others; their output has the reason")
    if failure.exitcode < 0:
        return UserError(
            f"{process} was ended by {failure.signal_name()}\n"
            "often because memory ran out; the same command with its name= resumes"
        )
    if not isinstance(message, dict):
        return RuntimeError(f"{process} ended with status {failure.exitcode}")
    kind, _, text = message["message"].partition(": ")
    if kind == "UserError":
        return UserError(text)
    return RuntimeError(f"{process}:\n{message['extraInfo']['py_callstack']}")
