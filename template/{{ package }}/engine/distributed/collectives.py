"""Communication between the processes of a run. With one process, each function is trivial."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def is_main() -> bool:
    """Whether this process writes the run's files and prints."""
    return rank() == 0


def rank() -> int:
    """This process's number, counted from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model with its gradients averaged over the processes."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def gradient_sync(model: nn.Module, now: bool) -> AbstractContextManager[object]:
    """Average gradients in this backward pass if `now`, else leave it to a later one."""
    if isinstance(model, DistributedDataParallel) and not now:
        return model.no_sync()
    return nullcontext()


def any_process(*flags: bool) -> list[bool]:
    """Each flag, set if any process has set it."""
    if not dist.is_initialized():
        return list(flags)
    gathered = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(gathered, dist.ReduceOp.MAX)
    return [bool(flag) for flag in gathered]


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over the processes, element by element."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gather(items: list[T]) -> list[T]:
    """The items of all processes, in each of them."""
    if not dist.is_initialized():
        return items
    lists: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(lists, items)
    return [item for part in lists for item in part]
