"""mode=train: from a config to checkpoints, top to bottom."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from .config import Config
from .config.training import Optim
from .engine.distributed.devices import autocast
from .engine.signals import Stop
from .engine.train.session import Session
from .evaluation import compute_metrics, measure_batch
from .model import build_model, compute_loss
from .project import PROJECT


def train(cfg: Config, run_dir: Path, stop: Stop) -> float:
    """Train, and return the best objective.

    Raises UserError where the user can fix it, Stopped after a signal.
    """
    run, optim = cfg.training.run, cfg.training.optim
    session = Session(PROJECT, cfg, run_dir, stop)  # device, seeds, checkpoints, logs
    device = session.device

    model = build_model(cfg).to(device)
    optimizer = build_optimizer(model, optim)
    # loads the newest checkpoint, if any; any object with a state_dict may be added by name
    session.restore(model=model, optimizer=optimizer)
    if session.is_complete():
        return session.conclude()
    trained = session.wrap(model)
    parameters = list(model.parameters())

    model.train()
    with session:
        while True:
            # due after an iteration; a resumed run starts here too, so that it skips nothing
            if session.is_eval_due():
                session.evaluate(model, measure_batch, compute_metrics)
            session.save_if_due()
            if session.is_over():
                break

            iteration = session.begin_iteration()
            lr = learning_rate(iteration, optim, run.iter_num)
            for group in optimizer.param_groups:
                group["lr"] = lr
            total = torch.zeros(2, device=device)  # the sum of the losses, and of their weights
            for batch in session.micro_batches():
                with autocast(device, run.precision):
                    part, weight = compute_loss(trained, batch)
                    part.backward()  # type: ignore[no-untyped-call]
                total[0] += part.detach()
                total[1] += weight
            loss, scale = session.mean_loss(total)  # over all micro-batches and processes
            grad_norm = scale_and_clip(parameters, scale, optim.grad_clip or math.inf)
            if session.may_step(loss, grad_norm):  # not after a NaN, if those are skipped
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            # session.log(name=value) adds a curve; these are also what the terminal shows
            session.end_iteration(loss=loss, lr=lr, grad_norm=grad_norm)
    return session.conclude()


def scale_and_clip(parameters: list[nn.Parameter], scale: Tensor, max_norm: float) -> Tensor:
    """Scale the gradients and clip as clip_grad_norm_ does, in one pass; return the norm."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = scale * nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, scale * (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


def build_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """The optimizer; weight decay applies to matrices and kernels, not to biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # fused: one kernel, a third of the time on a CPU too
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.betas[0], fused=True)
    betas = optim.betas[0], optim.betas[1]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=betas, fused=True)


def learning_rate(iteration: int, optim: Optim, iter_num: int) -> float:
    """The rate of iterations 1 to iter_num: linear warmup to lr, then down to final_ratio * lr."""
    scheduler = optim.scheduler
    if iteration <= scheduler.warmup_steps:
        return optim.lr * iteration / scheduler.warmup_steps
    done = (iteration - scheduler.warmup_steps) / (iter_num - scheduler.warmup_steps)
    height = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
    }[scheduler.name]
    floor = 1.0 if scheduler.name == "constant" else scheduler.final_ratio
    return optim.lr * (floor + (1 - floor) * height)
