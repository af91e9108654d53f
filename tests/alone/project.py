"""The least that a project is: types, data, a model, a loop. It fits y = slope * x."""

from pathlib import Path

import torch

from .engine import config, project
from .engine.inference import evaluate_split
from .engine.train.session import Session
from .engine.train.start import start


class Line(config.Dataset):
    slope: float


class Config(config.Config):
    data: Line


class Items(list):
    length, name, files = float, str, list


def open_items(cfg, split):
    return Items(torch.tensor([x, cfg.data.slope * x]) for x in torch.linspace(-1, 1, 100))


def compute_loss(model, batch):
    return (model(batch["xy"][:, :1]) - batch["xy"][:, 1:]).square().mean(dim=1)


def measure_batch(model, batch, cfg):
    return [{"loss": loss} for loss in compute_loss(model, batch).tolist()]


def compute_metrics(rows, cfg):
    return {"loss": sum(row["loss"] for row in rows) / len(rows)}


def train(cfg, run_dir, stop):
    session = Session(PROJECT, cfg, run_dir, stop)
    model = PROJECT.build_model(cfg)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    session.restore(model=model, optimizer=optimizer)
    trained = session.wrap(model)
    with session:
        while True:
            if session.is_eval_due():
                session.evaluate(model, measure_batch, compute_metrics)
            session.save_if_due()
            if session.is_over():
                return session.conclude()
            session.begin_iteration()
            for batch in session.micro_batches():
                loss = compute_loss(trained, batch).mean()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            session.end_iteration(loss=loss)


def evaluate(cfg, run_dir):
    return evaluate_split(PROJECT, cfg, run_dir, measure_batch, compute_metrics)[0]["loss"]


PROJECT = project.Project(
    root=Path(__file__).parents[1],
    config=Config,
    modes={
        "train": project.Mode(lambda cfg, run: start(train, PROJECT, cfg, run), "train"),
        "evaluate": project.Mode(evaluate, "evaluate", ("checkpoint",), ("held_out",)),
    },
    metrics={"loss": "minimize"},
    build_model=lambda cfg: torch.nn.Linear(1, 1),
    open_items=open_items,
    collate=lambda items, cfg: {"xy": torch.stack(items)},
)
