"""mode=train: from a config to checkpoints, top to bottom."""

import logging
import math
from pathlib import Path

import torch
from torch import nn

from .config import Config
from .config.training import Optim
from .engine.batches import seed_all
from .engine.checkpoints import Checkpoints, load_model
from .engine.devices import autocast, move, peak_memory, set_up_device
from .engine.errors import Stopped, UserError
from .engine.loaders import eval_loader, items_of_batch, train_loader
from .engine.manifest import Goal, Progress, find_checkpoint, goal_of, newest_checkpoint
from .engine.metrics import MetricsFile, Pace, ProgressBar, Recent
from .engine.processes import agree, parallel, share, synchronized
from .engine.profiling import profiler
from .engine.record import begin_record
from .engine.stopping import Stop, until
from .engine.tracking import open_tracker
from .evaluation import measure
from .model import build_model, compute_loss

log = logging.getLogger(__name__)


def train(cfg: Config, run_dir: Path, stop: Stop) -> float:
    """Train, and return the best objective. Raises UserError where the user can mend it."""
    run, optim, metric = cfg.training.run, cfg.training.optim, cfg.training.objective.metric
    device = set_up_device(run)
    seed_all(run.seed)

    model = build_model(cfg).to(device)
    optimizer = build_optimizer(model, optim)
    checkpoints = Checkpoints(run_dir, cfg)
    progress = checkpoints.restore(model, optimizer)
    start = progress.iteration
    if is_complete(progress, cfg):
        log.info("complete: %d of %d iterations are done, nothing to train", start, run.iter_num)
        return conclude(progress, cfg)
    if start:
        log.info("continues after iteration %d of %d", start, run.iter_num)
    elif cfg.init:
        load_model(model, find_checkpoint(Path(cfg.init), "init"))
    begin_record(cfg, run_dir, checkpoints.made_of)
    rank, processes = share()
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    log.info("%s parameters on %d × %s, %s", f"{size:,}", processes, device, run.precision)
    if run.compile:
        model.compile(dynamic=run.compile_dynamic)
    trained = parallel(model)

    pace = Pace(start, cfg.training.loader.batch_size)
    batches = pace.watch(iter(train_loader(cfg, start, stop)))
    valid_loader = eval_loader(cfg, "valid", run.eval_batches, stop)
    metrics = MetricsFile(run_dir, start, progress.evaluated)
    recent = Recent()
    model.train()
    with (
        open_tracker(cfg, run_dir, start) as tracker,
        ProgressBar(run.iter_num, start, run.estimate_after, device.type) as bar,
        profiler(cfg.training, run_dir, device, run.iter_num - start) as profile_step,
    ):
        pace.restart(start)
        while True:
            # what is due after this iteration; a resumed run begins here, so nothing is left out
            now = progress.iteration
            ends = now >= run.iter_num
            stopping, due = agree(stop.is_set(), checkpoints.is_due(now))
            value, is_best = None, False
            sound = progress.skipped == 0  # else the last step may have spoilt the weights
            if now > progress.evaluated and (now % run.eval_every == 0 or ends) and not stopping:
                values, _ = measure(model, until(stop, valid_loader), cfg)
                (stopping,) = agree(stop.is_set())
                if not stopping:  # one that was cut short is repeated when the run goes on
                    metrics.write(now, "valid", values)
                    tracker.log(now, "valid", values)
                    bar.tell(now, values)
                    pace.restart(now)
                    sound = all(map(math.isfinite, values.values()))
                    value = values[metric] if sound else math.nan
                    is_best = is_better(value, progress.best, goal_of(metric))
                    progress.best = value if is_best else progress.best
                    progress.stale = 0 if is_best else progress.stale + 1
                    progress.evaluated = now
            ends = is_complete(progress, cfg)
            if ends or ((due or is_best or stopping) and sound and now > 0):
                check_finite(recent, cfg, run_dir)
                checkpoints.save(progress, value, model, optimizer, must=ends or stopping)
            if stopping and not ends:
                where = f"saved in {run_dir}" if sound and now else "nothing new to save"
                log.info("stopped after iteration %d of %d; %s", now, run.iter_num, where)
                raise Stopped(stop.signal)
            if ends:
                break

            progress.iteration += 1
            now = progress.iteration
            lr = learning_rate(now, optim, run.iter_num)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = torch.zeros((), device=device)
            for micro_batch in range(run.accumulate):
                batch = move(next(batches), device)
                # dropout depends on these numbers alone, wherever the run was resumed
                seed_all(run.seed, now, micro_batch, rank)
                is_last = micro_batch == run.accumulate - 1
                with synchronized(trained, is_last), autocast(device, run.precision):
                    part = compute_loss(trained, batch) / run.accumulate
                    part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
            norm = nn.utils.clip_grad_norm_(parameters, optim.grad_clip or math.inf)
            if run.on_nonfinite == "skip" and any(agree(not math.isfinite(loss + norm))):
                progress.skipped += 1
                log.warning("iteration %d is left out: loss %g, norm %g", now, loss, norm)
                if progress.skipped > run.skip_at_most:
                    raise nonfinite(now, loss.item(), norm.item(), cfg, run_dir)
            else:
                progress.skipped = 0
                optimizer.step()
                recent.add(now, loss, norm)
            optimizer.zero_grad(set_to_none=True)
            bar.step(now)

            if now % run.log_every == 0 or now == run.iter_num:
                check_finite(recent, cfg, run_dir)
                losses = [loss for _, loss, _ in recent.read()]
                values = {
                    "loss": sum(losses) / len(losses) if losses else math.nan,
                    "lr": lr,
                    "grad_norm": norm.item(),
                    **pace.read(now),
                    **peak_memory(device),
                }
                recent = Recent()
                metrics.write(now, "train", values)
                tracker.log(now, "train", values)
                bar.show(now, values)
            profile_step()
    pace.tell(peak_memory(device))
    return conclude(progress, cfg)


def is_complete(progress: Progress, cfg: Config) -> bool:
    """Whether all iterations are done, and evaluated, or patience has come to its end."""
    run = cfg.training.run
    return progress.evaluated >= run.iter_num or progress.stale == run.patience


def conclude(progress: Progress, cfg: Config) -> float:
    """Say how it went; return the best objective."""
    metric, iter_num = cfg.training.objective.metric, cfg.training.run.iter_num
    best = math.nan if progress.best is None else progress.best
    stopped = "" if progress.iteration >= iter_num else ", stopped early"
    log.info("iteration %d%s: best %s %.4g", progress.iteration, stopped, metric, best)
    return best


def check_finite(recent: Recent, cfg: Config, run_dir: Path) -> None:
    """Stop before weights that a loss or gradient has spoilt are saved. Raises UserError."""
    for iteration, loss, norm in recent.read():
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise nonfinite(iteration, loss, norm, cfg, run_dir)


def nonfinite(iteration: int, loss: float, norm: float, cfg: Config, run_dir: Path) -> UserError:
    """What is known about an iteration whose loss or gradient is no number, and the way out."""
    run = cfg.training.run
    lr = learning_rate(iteration, cfg.training.optim, run.iter_num)
    newest = newest_checkpoint(run_dir)
    forced = ", with resume=force" if newest else ""
    if run.on_nonfinite == "skip":
        skipping = f"more than training.run.skip_at_most ({run.skip_at_most}) in a row are left out"
    else:
        skipping = "if these items are to blame, training.run.on_nonfinite=skip leaves them out"
    return UserError(
        f"the loss is {loss:.3g} at iteration {iteration}, its gradient's norm {norm:.3g}\n"
        f"at a learning rate of {lr:.3g}; the items of its batch:\n"
        f"{', '.join(items_of_batch(cfg, iteration))}\n{skipping}\n"
        f"a lower training.lr or a longer training.warmup_steps may help{forced}\n"
        f"the last sound checkpoint: {newest or 'none yet'}"
    )


def build_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """Weight decay pulls on matrices and kernels, not on biases and norms."""
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


def is_better(value: float, best: float | None, goal: Goal) -> bool:
    """Whether value beats the best so far; the first does, unless it is no number."""
    if best is None or math.isnan(value):
        return not math.isnan(value)
    return value < best if goal == "minimize" else value > best
