"""Optimizers, the learning rate, and the average of the weights: by the kinds of training.optim."""

import copy
import math
import re

import torch
from torch import Tensor, nn

from .config.training import AdamW, Constant, Curve, Muon, Sgd, Training, Wsd
from .engine.errors import UserError

Named = dict[str, nn.Parameter]


def build_optimizers(model: nn.Module, training: Training) -> dict[str, torch.optim.Optimizer]:
    """Freeze what training.finetune.frozen names; return the optimizers of the others, by name."""
    optim, freeze = training.optim, training.finetune.frozen
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(re.search(pattern, name) for pattern in freeze))
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise UserError(f"training.finetune.frozen = {freeze}: no parameter is left to train")
    # fused: one kernel, a third of the time on a CPU too
    match optim:
        case AdamW():
            betas = optim.betas[0], optim.betas[1]
            groups = group_parameters(named, training)
            return {"adamw": torch.optim.AdamW(groups, betas=betas, fused=True)}
        case Sgd():
            groups = group_parameters(named, training)
            return {"sgd": torch.optim.SGD(groups, momentum=optim.momentum, fused=True)}
        case Muon():
            betas = optim.betas[0], optim.betas[1]
            hidden = find_hidden_matrices(model)
            matrices = {name: p for name, p in named.items() if id(p) in hidden}
            others = {name: p for name, p in named.items() if id(p) not in hidden}
            if not matrices:
                raise UserError("training/optim=muon: no hidden matrix is trained; try adamw")
            # match_rms_adamw: so that one learning rate fits both
            muon = torch.optim.Muon(
                group_parameters(matrices, training),
                momentum=optim.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
            optimizers: dict[str, torch.optim.Optimizer] = {"muon": muon}
            if others:
                groups = group_parameters(others, training)
                optimizers["adamw"] = torch.optim.AdamW(groups, betas=betas, fused=True)
            return optimizers


def group_parameters(named: Named, training: Training) -> list[dict[str, object]]:
    """Groups by weight decay and learning rate; biases and norms do not decay."""
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named.items():
        decay = training.optim.weight_decay if parameter.ndim >= 2 else 0.0
        rules = training.finetune.lr_scale
        scale = next((rule.factor for rule in rules if re.search(rule.name, name)), 1.0)
        groups.setdefault((decay, scale), []).append((name, parameter))
    return [
        {"params": members, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), members in groups.items()
    ]


def find_hidden_matrices(model: nn.Module) -> set[int]:
    """The ids of the matrices of linear and attention layers, without the last one, the head."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    attention = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    found = [p for m in (*linear[:-1], *attention) for p in m.parameters(recurse=False)]
    return {id(p) for p in found if p.ndim == 2}


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
    """Move the average towards the model, faster at first, so that initial weights fade soon.

    The decay is that of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    step = 1 - min(ema, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), step)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
