"""Weights that a run starts from: of a run, a checkpoint, or a file of somebody else."""

import difflib
import logging
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import see
from ..config import Config
from ..errors import UserError
from ..project import Project
from .files import WEIGHTS, find_checkpoint, is_weights_file

log = logging.getLogger(__name__)

WRAPPED = ("state_dict", "model_state_dict", "model")  # keys under which programs save the weights
SHOWN = 4


@dataclass
class Plan:
    """Which tensors of a model are loaded from a file, and which are initialized anew."""

    file: Path
    loaded: dict[str, str]
    """Names in the model, and those in the file."""
    fresh: list[str]
    unused: list[str]
    """Names in the file."""
    problems: list[str]


def find_weights(path: str) -> Path:
    """The file that `init` names. Raises UserError if there is none."""
    file = Path(path)
    return file if is_weights_file(path) else find_checkpoint(file, "init") / WEIGHTS


def finetune_problems(project: Project, cfg: Config) -> Iterator[str]:
    """Problems of training.finetune and of the weights that it loads, found from shapes alone."""
    with torch.device("meta"):
        model = project.build_model(cfg)
    names, finetune = list(model.state_dict()), cfg.training.finetune
    scaled = [rule.name for rule in finetune.lr_scale]
    for key, patterns in {
        "fresh": finetune.fresh,
        "frozen": finetune.frozen,
        "lr_scale": scaled,
    }.items():
        for pattern in patterns:
            if not matching(names, [pattern]):
                yield f"training.finetune.{key}: {pattern} matches no parameter of this model"
    if cfg.init:
        try:
            yield from make_plan(model, cfg, meta=True)[0].problems
        except UserError as error:
            yield from error.problems


def make_plan(model: nn.Module, cfg: Config, meta: bool = False) -> tuple[Plan, dict[str, Tensor]]:
    """How the model's tensors begin, and the file's tensors, if `meta` their shapes alone.

    Raises UserError if the file cannot be read.
    """
    finetune, file = cfg.training.finetune, find_weights(str(cfg.init))
    there = read_tensors(file, meta)
    renamed = {}
    for name in there:
        new = name
        for rule in finetune.rename:
            new = re.sub(rule.name, rule.to, new)
        renamed[new] = name
    here = model.state_dict(keep_vars=True)
    fresh = matching(list(here), finetune.fresh)
    fits = {n for n in here.keys() & renamed.keys() if here[n].shape == there[renamed[n]].shape}
    loaded = {name: renamed[name] for name in here if name in fits and name not in fresh}
    shared = {id(here[name]) for name in loaded}  # a file may hold one of two tied tensors
    lacking = [
        name for name in here if name not in (*loaded, *fresh) and id(here[name]) not in shared
    ]
    unused = [name for name in there if name not in loaded.values()]
    problems = []
    if lacking:
        lines = [_why(name, here[name], renamed, there) for name in lacking[:SHOWN]]
        more = [f"… and {len(lacking) - SHOWN} more"] if len(lacking) > SHOWN else []
        rest = [f"of the file, not used: {_some(unused)}"] if unused else []
        way_out = "training.finetune.rename maps the file's names, fresh initializes anew"
        way_out += see("own-code.md#pretrained-weights")
        count = f"init = {cfg.init}: {len(lacking)} of the model's {len(here)} tensors do not fit"
        problems = ["\n".join([count, *lines, *more, *rest, way_out])]
    return Plan(file, loaded, fresh, unused, problems), there


def _why(name: str, tensor: Tensor, renamed: dict[str, str], there: dict[str, Tensor]) -> str:
    shape = f"{name} {list(tensor.shape)}"
    if name in renamed:
        return f"{shape}: the file has {list(there[renamed[name]].shape)}"
    close = difflib.get_close_matches(name, [renamed[it] for it in renamed], 1)
    return f"{shape}: not in the file" + (f", which has {close[0]}" if close else "")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def matching(names: list[str], patterns: list[str]) -> list[str]:
    """The names in which one of these regular expressions is found."""
    return [name for name in names if any(re.search(pattern, name) for pattern in patterns)]


def read_tensors(file: Path, meta: bool) -> dict[str, Tensor]:
    """The tensors of a file by name, if `meta` without their values. Raises UserError."""
    try:
        if file.suffix == ".safetensors" and meta:
            with safe_open(file, framework="pt") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                return {
                    name: torch.empty(it.get_shape(), device="meta") for name, it in slices.items()
                }
        if file.suffix == ".safetensors":
            return load_file(file)
        state: Any = torch.load(file, weights_only=True, map_location="meta" if meta else "cpu")
    except pickle.UnpicklingError:
        raise UserError(
            f"init = {file}: it holds Python objects, which could run code\n"
            "expected tensors alone: save its state_dict with safetensors"
        ) from None
    except OSError as error:
        raise UserError(f"init = {file}: {error.strerror or error}") from None
    except Exception as error:  # of a broken file torch and safetensors raise many kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"init = {file}: not a file of weights ({reason})") from None
    inner = [state[key] for key in WRAPPED if isinstance(state, dict) and key in state]
    tensors = dict(inner[0] if inner else state) if isinstance(state, dict) else {}
    found = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not found:
        raise UserError(f"init = {file}: expected a state dict, tensors by name")
    return found


def load_pretrained(model: nn.Module, cfg: Config) -> dict[str, Any]:
    """Load what training.finetune says; return it for the record. Raises UserError."""
    plan, there = make_plan(model, cfg)
    if plan.problems:
        raise UserError(*plan.problems)
    own = model.state_dict()
    for name, source in plan.loaded.items():
        own[name].copy_(there[source])
    log.info("init: %d of %d tensors of %s", len(plan.loaded), len(own), plan.file)
    frozen = [name for name, it in model.named_parameters() if not it.requires_grad]
    for what, names in {
        "initialized anew": plan.fresh,
        "frozen": frozen,
        "of the file, not used": plan.unused,
    }.items():
        if names:
            log.info("%s: %s", what, _some(names))
    loaded = {"file": str(plan.file), "loaded": plan.loaded, "fresh": plan.fresh}
    return {**loaded, "unused": plan.unused, "frozen": frozen}
