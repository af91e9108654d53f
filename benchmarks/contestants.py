"""The same training three ways: a bare loop, Lightning's Trainer, and the project's train.py.

    python contestants.py NAME PACKAGE RUN BLOCK OVERRIDE …

runs in a rendered project. After each block of iterations it says how long the block took and the
most memory so far, then waits for a line on its standard input: so several take turns.
"""

import importlib
import json
import math
import os
import resource
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAID = "block"


class Turns:
    """Counts iterations, and waits for its turn after each block of them."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.done = 0
        self.began = time.perf_counter()

    def step(self) -> None:
        """One iteration is done."""
        self.done += 1
        if self.done % self.block:
            return
        import torch

        if on_gpu := torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        took = time.perf_counter() - self.began
        if on_gpu:
            megabytes = torch.cuda.max_memory_allocated() / 1e6
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        print(SAID, took, megabytes, flush=True)
        if not sys.stdin.readline():
            os._exit(0)
        self.began = time.perf_counter()


def parts(package: str, run_dir: Path) -> tuple[Any, Any, Any]:
    """The typed config that train.py wrote, and the modules of its model and its data."""
    import yaml

    types = importlib.import_module(f"{package}.config")
    cfg = types.Config.model_validate(yaml.safe_load((run_dir / "config.yaml").read_text()))
    return (
        cfg,
        importlib.import_module(f"{package}.model"),
        importlib.import_module(f"{package}.data"),
    )


class Batches:
    """The indices of the run's own batches: others have other lengths, and take other times."""

    def __init__(self, package: str, cfg: Any, items: Any) -> None:
        order = importlib.import_module(f"{package}.engine.data.order")
        self.order = order.BatchOrder(items, cfg.training)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.order:
            yield [index for _, index in batch]


def plain_loader(package: str, cfg: Any, data: Any) -> Any:
    """A DataLoader as its documentation has it."""
    from functools import partial

    import torch

    items = data.open_items(cfg, "train")
    return torch.utils.data.DataLoader(
        items,
        batch_sampler=Batches(package, cfg, items),
        num_workers=cfg.training.loader.num_workers,
        collate_fn=partial(data.collate, cfg=cfg),
        pin_memory=torch.cuda.is_available(),
    )


def optimizer_of(model: Any, optim: Any, fused: bool = True) -> Any:
    """AdamW, without decay of biases and norms."""
    import torch

    groups: Any = [
        {"params": [p for p in model.parameters() if p.ndim >= 2]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (optim.betas[0], optim.betas[1])
    decay = optim.weight_decay
    return torch.optim.AdamW(groups, lr=optim.lr, betas=betas, weight_decay=decay, fused=fused)


def rate(step: int, optim: Any, iter_num: int) -> float:
    """Share of the learning rate at a step: warmup, then a cosine."""
    warmup, final = optim.scheduler.warmup_steps, optim.scheduler.final_ratio
    if step <= warmup:
        return float(step / warmup)
    done = (step - warmup) / (iter_num - warmup)
    return float(final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def bare(package: str, run_dir: Path, turns: Turns) -> None:
    """What an engineer writes who wants it fast and nothing else."""
    import torch

    cfg, models, data = parts(package, run_dir)
    run, optim = cfg.training.run, cfg.training.optim
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(run.seed)
    model = models.build_model(cfg).to(device)
    if run.compile:
        model.compile(dynamic=run.compile_dynamic)
    optimizer = optimizer_of(model, optim)
    parameters = list(model.parameters())
    bf16 = run.precision == "bf16"
    losses = []
    with Path("bare.jsonl").open("w") as log:
        for step, batch in enumerate(plain_loader(package, cfg, data), start=1):
            batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            lr = optim.lr * rate(step, optim, run.iter_num)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss, weight = models.compute_loss(model, batch)
                loss = loss / weight
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, optim.grad_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            if step % run.log_every == 0:
                mean = torch.stack(losses).mean().item()
                losses.clear()
                row = {"step": step, "loss": mean, "lr": lr, "grad_norm": norm.item()}
                log.write(json.dumps(row) + "\n")
                print(row, flush=True)
            turns.step()


def lightning(package: str, run_dir: Path, turns: Turns) -> None:
    """The same with Lightning's Trainer."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    cfg, models, data = parts(package, run_dir)
    run, optim = cfg.training.run, cfg.training.optim

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = models.build_model(cfg)
            if run.compile:
                self.model.compile(dynamic=run.compile_dynamic)

        def training_step(self, batch: Any, _: int) -> Any:
            loss, weight = models.compute_loss(self.model, batch)
            loss = loss / weight
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            # in mixed precision Lightning refuses to clip with a fused one
            optimizer = optimizer_of(self.model, optim, fused=run.precision == "fp32")
            scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: rate(step + 1, optim, run.iter_num)
            )
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def on_train_batch_end(self, *_: Any) -> None:
            turns.step()

    torch.manual_seed(run.seed)
    trainer = Trainer(
        max_steps=run.iter_num,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision="bf16-mixed" if run.precision == "bf16" else "32-true",
        gradient_clip_val=optim.grad_clip,
        log_every_n_steps=run.log_every,
        logger=CSVLogger("lightning"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), train_dataloaders=plain_loader(package, cfg, data))


def ours(package: str, run_dir: Path, turns: Turns) -> None:
    """train.py as a user starts it; only the turns are added."""
    bars = importlib.import_module(f"{package}.engine.train.progress_bar")
    inner = bars.ProgressBar.step

    def step(bar: Any, iteration: int) -> None:
        inner(bar, iteration)
        turns.step()

    bars.ProgressBar.step = step
    sys.argv = ["train.py", f"name={run_dir.name}", *sys.argv[5:]]
    runpy.run_path("train.py", run_name="__main__")


if __name__ == "__main__":
    name, package, run_dir, block = sys.argv[1:5]
    sys.path.insert(0, str(Path.cwd()))
    contestant = {"bare": bare, "lightning": lightning, "ours": ours}[name]
    contestant(package, Path(run_dir), Turns(int(block)))
