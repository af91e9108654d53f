"""mode=train: from a config to checkpoints, top to bottom."""

import math
from pathlib import Path

import torch

from .config import Config
from .engine.distributed.devices import autocast
from .engine.signals import Stop
from .engine.train.session import Session
from .evaluation import compute_metrics, measure_batch
from .model import build_model, compute_loss
from .optim import (
    build_average,
    build_optimizers,
    learning_rate,
    scale_and_clip,
    set_learning_rate,
    update_average,
)
from .project import PROJECT


def train(cfg: Config, run_dir: Path, stop: Stop) -> float:
    """Train, and return the best objective.

    Raises UserError where the user can fix it, Stopped after a signal.
    """
    run, optim, ema = cfg.training.run, cfg.training.optim, cfg.training.ema
    session = Session(PROJECT, cfg, run_dir, stop)  # device, seeds, checkpoints, logs
    device = session.device

    model = build_model(cfg).to(device)
    average = build_average(model, ema)
    optimizers = build_optimizers(model, cfg.training)
    scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "fp16")
    # loads the newest checkpoint, if any; any object with a state_dict may be added by name
    session.restore(model=model, average=average, scaler=scaler, **optimizers)
    if session.is_complete():
        return session.conclude()
    trained = session.wrap(model)
    evaluated = model if average is None else average
    parameters = list(model.parameters())

    model.train()
    with session:
        while True:
            # due after an iteration; a resumed run starts here too, so that it skips nothing
            if session.is_eval_due():
                session.evaluate(evaluated, measure_batch, compute_metrics)
            session.save_if_due()
            if session.is_over():
                break

            iteration = session.begin_iteration()
            lr = learning_rate(iteration, cfg.training)
            set_learning_rate(optimizers, lr)
            total = torch.zeros(2, device=device)  # the sum of the losses, and of their weights
            for batch in session.micro_batches():
                with autocast(device, run.precision):
                    part, weight = compute_loss(trained, batch)
                    scaler.scale(part).backward()  # type: ignore[no-untyped-call]
                total[0] += part.detach()
                total[1] += weight
            for optimizer in optimizers.values():
                scaler.unscale_(optimizer)  # with fp16 alone
            loss, scale = session.mean_loss(total)  # over all micro-batches and processes
            grad_norm = scale_and_clip(parameters, scale, optim.grad_clip or math.inf)
            if session.may_step(loss, grad_norm):  # not after a NaN, if those are skipped
                for optimizer in optimizers.values():
                    scaler.step(optimizer)
                if average is not None and ema is not None:
                    update_average(average, model, ema, iteration)
            scaler.update()
            for optimizer in optimizers.values():
                optimizer.zero_grad()  # the model's own walks through all modules
            # session.log(name=value) adds a curve; these are also what the terminal shows
            session.end_iteration(loss=loss, lr=lr, grad_norm=grad_norm)
    return session.conclude()
