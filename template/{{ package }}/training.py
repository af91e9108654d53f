"""mode=train: from a config to checkpoints, top to bottom."""

import logging
import math
from pathlib import Path

import torch
from torch import nn

from .config import Config
from .config.training import Objective, Optim
from .data import eval_loader, train_loader
from .engine.checkpoints import Checkpoints, load_model
from .engine.devices import autocast, move, pick_device, seed_everything
from .engine.errors import UserError
from .engine.metrics import MetricsFile, ProgressBar
from .engine.runs import find_checkpoint, write_record
from .engine.tracking import open_tracker
from .evaluation import measure
from .model import build_model, compute_loss

log = logging.getLogger(__name__)


def train(cfg: Config, run_dir: Path) -> float:
    """Train, and return the best objective. Raises UserError where the user can mend it."""
    run, optim, objective = cfg.training.run, cfg.training.optim, cfg.training.objective
    device = pick_device(run.device)
    seed_everything(run.seed, run.deterministic)

    model = build_model(cfg).to(device)
    optimizer = build_optimizer(model, optim)
    keep_last = cfg.training.checkpoint.keep_last
    checkpoints = Checkpoints(run_dir, keep_last, objective.metric, objective.goal)
    progress = checkpoints.restore(model, optimizer)
    write_record(cfg.model_dump(), run_dir)
    start = progress.iteration
    if start >= run.iter_num:
        log.info("complete: %d of %d iterations are done", start, run.iter_num)
    elif start:
        log.info("continues after iteration %d of %d", start, run.iter_num)
    elif cfg.init:
        load_model(model, find_checkpoint(Path(cfg.init)))
    parameters = sum(p.numel() for p in model.parameters())
    log.info("%s parameters on %s, %s", f"{parameters:,}", device, run.precision)
    if run.compile:
        model.compile(dynamic=True)  # audio comes in all lengths

    batches = iter(train_loader(cfg, start))
    valid_loader = eval_loader(cfg, "valid", run.eval_batches)
    metrics = MetricsFile(run_dir, start)
    with (
        open_tracker(cfg, run_dir, start) as tracker,
        ProgressBar(run.iter_num, start, run.estimate_after, device.type) as bar,
    ):
        losses = []  # kept on the device: reading one waits for the whole iteration
        model.train()
        while progress.iteration < run.iter_num and progress.stale < (run.patience or math.inf):
            progress.iteration += 1
            is_last = progress.iteration == run.iter_num
            lr = learning_rate(progress.iteration, optim, run.iter_num)
            for group in optimizer.param_groups:
                group["lr"] = lr
            for _ in range(run.accumulate):
                batch = move(next(batches), device)
                with autocast(device, run.precision):
                    loss = compute_loss(model, batch) / run.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach())
            norm = nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.step(progress.iteration)

            if progress.iteration % run.log_every == 0 or is_last:
                values = {
                    "loss": torch.stack(losses).sum().item() * run.accumulate / len(losses),
                    "lr": lr,
                    "grad_norm": norm.item(),
                    "iterations_per_second": bar.rate(progress.iteration),
                }
                losses.clear()
                metrics.write(progress.iteration, "train", values)
                tracker.log(progress.iteration, "train", values)
                bar.show(progress.iteration, values)
                check_finite(values["loss"], norm.item(), lr, progress.iteration)

            value, is_best = None, False
            if progress.iteration % run.eval_every == 0 or is_last:
                values, _ = measure(model, valid_loader, cfg)
                metrics.write(progress.iteration, "valid", values)
                tracker.log(progress.iteration, "valid", values)
                bar.tell(progress.iteration, values)
                value = values[objective.metric]
                is_best = is_better(value, progress.best, objective)
                progress.best = value if is_best else progress.best
                progress.stale = 0 if is_best else progress.stale + 1
                is_last = is_last or progress.stale == run.patience

            is_due = progress.iteration % cfg.training.checkpoint.every == 0
            if is_due or is_best or is_last:
                check_finite(loss.item(), norm.item(), lr, progress.iteration)
                checkpoints.save(progress, value, model, optimizer)

    best = math.nan if progress.best is None else progress.best
    stopped = "" if progress.iteration == run.iter_num else ", stopped early"
    log.info("iteration %d%s: best %s %.4g", progress.iteration, stopped, objective.metric, best)
    return best


def check_finite(loss: float, norm: float, lr: float, iteration: int) -> None:
    """Stop before a loss or gradient that is no number is saved over a good checkpoint."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
            f"the loss is {loss} at iteration {iteration}, its gradient's norm {norm:.3g}\n"
            f"at a learning rate of {lr:.3g}; a lower training.lr or a longer warmup may help"
        )


def build_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """Weight decay pulls on matrices and kernels, not on biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.betas[0])
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.betas[0], optim.betas[1]))


def learning_rate(iteration: int, optim: Optim, iter_num: int) -> float:
    """Of iterations 1 to iter_num: linear warmup to lr, then the curve down to its final share."""
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


def is_better(value: float, best: float | None, objective: Objective) -> bool:
    """Whether value beats the best so far; the first does, unless it is no number."""
    if best is None or math.isnan(value):
        return not math.isnan(value)
    return value < best if objective.goal == "minimize" else value > best
