"""Optimizers, the learning rate, and the average of the weights: by the kinds of training.optim."""

import copy
import math

import torch
from torch import Tensor, nn

from .config.training import AdamW, Constant, Curve, Muon, Optim, Sgd, Training, Wsd
from .engine.errors import UserError

Optimizers = dict[str, torch.optim.Optimizer]


def build_optimizers(model: nn.Module, optim: Optim) -> Optimizers:
    """The optimizers by their names in checkpoints.

    Weight decay applies to matrices and kernels, not to biases and norms.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    # fused: one kernel, a third of the time on a CPU too
    match optim:
        case AdamW():
            groups = decay_groups(parameters, optim)
            adamw = torch.optim.AdamW(groups, betas=(optim.betas[0], optim.betas[1]), fused=True)
            return {"adamw": adamw}
        case Sgd():
            groups = decay_groups(parameters, optim)
            return {"sgd": torch.optim.SGD(groups, momentum=optim.momentum, fused=True)}
        case Muon():
            if not (hidden := hidden_matrices(model)):
                raise UserError("training/optim=muon: this model has no hidden matrices; try adamw")
            others = [p for p in parameters if not any(p is it for it in hidden)]
            groups = decay_groups(others, optim)
            betas = optim.betas[0], optim.betas[1]
            return {
                "muon": torch.optim.Muon(
                    hidden,
                    weight_decay=optim.weight_decay,
                    momentum=optim.momentum,
                    adjust_lr_fn="match_rms_adamw",  # so that one learning rate fits both
                ),
                "adamw": torch.optim.AdamW(groups, betas=betas, fused=True),
            }


def decay_groups(parameters: list[nn.Parameter], optim: Optim) -> list[dict[str, object]]:
    """Parameters that decay, and those that do not."""
    decayed = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear and attention layers, without the last linear layer, the head."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    attention = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    found = [p for m in (*linear[:-1], *attention) for p in m.parameters(recurse=False)]
    return [p for p in found if p.ndim == 2 and p.requires_grad]


def scale_and_clip(parameters: list[nn.Parameter], scale: Tensor, max_norm: float) -> Tensor:
    """Scale the gradients and clip as clip_grad_norm_ does, in one pass; return the norm."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = scale * nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, scale * (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


def learning_rate(iteration: int, training: Training) -> float:
    """The rate of iterations 1 to iter_num: linear warmup to lr, then the curve of the kind."""
    optim, scheduler = training.optim, training.optim.scheduler
    if iteration <= scheduler.warmup_steps:
        return optim.lr * iteration / scheduler.warmup_steps
    done = (iteration - scheduler.warmup_steps) / (training.run.iter_num - scheduler.warmup_steps)
    match scheduler:
        case Constant():
            return optim.lr
        case Curve(kind="cosine"):
            height = (1 + math.cos(math.pi * done)) / 2
        case Curve():
            height = 1 - done
        case Wsd():
            height = min(1.0, (1 - done) / scheduler.decay_ratio)
    return optim.lr * (scheduler.final_ratio + (1 - scheduler.final_ratio) * height)


def build_average(model: nn.Module, ema: float | None) -> nn.Module | None:
    """A copy of the model for the average of its weights; None without training.ema."""
    return None if ema is None else copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, ema: float, iteration: int) -> None:
    """Move the average towards the model, faster at first: the initial weights are soon gone."""
    step = 1 - min(ema, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), step)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
