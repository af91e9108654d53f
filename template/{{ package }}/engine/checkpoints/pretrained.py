"""Pretrained weights: of a run, a checkpoint, or a file."""

import difflib
import logging
import pickle
import re
from collections.abc import Iterator
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
WAY_OUT = "training.finetune.rename maps the file's names, fresh initializes anew"
WAY_OUT += see("own-code.md#pretrained-weights")


def finetune_problems(project: Project, cfg: Config, compare: bool) -> Iterator[str]:
    """Patterns that match nothing and, to `compare`, tensors of `init` that do not fit."""
    with torch.device("meta"):
        model = project.build_model(cfg)
    finetune = cfg.training.finetune
    scaled = [rule.name for rule in finetune.lr_scale]
    rules = {"fresh": finetune.fresh, "frozen": finetune.frozen, "lr_scale": scaled}
    for key, patterns in rules.items():
        # of tied tensors, parameters have one name; buffers are none
        names = list(model.state_dict() if key == "fresh" else dict(model.named_parameters()))
        for pattern in patterns:
            if not any(re.search(pattern, name) for name in names):
                given = f"training.finetune.{key}: {pattern} matches no parameter of this model"
                yield f"{given}; expected one such as {_some(names)}"
    if compare:
        try:
            yield from _match(model, cfg, *read_weights(str(cfg.init), meta=True))[1]
        except UserError as error:
            yield from error.problems


def load_pretrained(model: nn.Module, cfg: Config) -> dict[str, Any]:
    """Load what training.finetune says; return it for the record. Raises UserError."""
    file, there = read_weights(str(cfg.init))
    noted, problems = _match(model, cfg, file, there)
    if problems:
        raise UserError(*problems)
    own = model.state_dict()
    for name, source in noted["loaded"].items():
        own[name].copy_(there[source])
    noted["frozen"] = [name for name, it in model.named_parameters() if not it.requires_grad]
    log.info("init: %d of %d tensors of %s", len(noted["loaded"]), len(own), file)
    for key, what in (
        ("fresh", "initialized anew"),
        ("frozen", "frozen"),
        ("unused", "of the file, not used"),
    ):
        if noted[key]:
            log.info("%s: %s", what, _some(noted[key]))
    return noted


def read_weights(path: str, meta: bool = False) -> tuple[Path, dict[str, Tensor]]:
    """The file that `init` names, and its tensors, if `meta` without values. Raises UserError."""
    file = Path(path)
    if not is_weights_file(path):
        file = find_checkpoint(file, "init") / WEIGHTS
    try:
        if file.suffix == ".safetensors" and meta:
            with safe_open(file, framework="pt") as opened:
                shapes = {it: opened.get_slice(it).get_shape() for it in opened.keys()}  # noqa: SIM118
            return file, {name: torch.empty(it, device="meta") for name, it in shapes.items()}
        if file.suffix == ".safetensors":
            return file, load_file(file)
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
    state = state if isinstance(state, dict) else {}
    state = next((state[key] for key in WRAPPED if isinstance(state.get(key), dict)), state)
    found = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not found:
        raise UserError(f"init = {file}: expected a state dict, tensors by name")
    return file, found


def _match(
    model: nn.Module, cfg: Config, file: Path, there: dict[str, Tensor]
) -> tuple[dict[str, Any], list[str]]:
    """What is loaded (the model's names, with the file's), fresh and unused; what does not fit."""
    renamed: dict[str, str] = {}
    for name in there:
        new = name
        for rule in cfg.training.finetune.rename:
            new = re.sub(rule.name, rule.to, new)
        if new in renamed:
            twice = f"both {renamed[new]} and {name} become {new}"
            return {}, [f"training.finetune.rename: {twice}; expected a name of its own for each"]
        renamed[new] = name
    here = model.state_dict(keep_vars=True)
    fresh = [n for n in here if any(re.search(it, n) for it in cfg.training.finetune.fresh)]
    fits = {n for n in here.keys() & renamed.keys() if here[n].shape == there[renamed[n]].shape}
    loaded = {name: renamed[name] for name in here if name in fits.difference(fresh)}
    shared = {id(here[name]) for name in loaded}  # a file may hold one of two tied tensors
    known = {name for name in here if name in (*loaded, *fresh) or id(here[name]) in shared}
    used = set(loaded.values())
    unused = [name for name in there if name not in used]
    noted = {"file": str(file), "loaded": loaded, "fresh": fresh, "unused": unused}
    if not (lacking := [name for name in here if name not in known]):
        return noted, []
    lines = [f"init = {cfg.init}: {len(lacking)} of the model's {len(here)} tensors do not fit"]
    for name in lacking[:SHOWN]:
        why = "not in the file"
        if name in renamed:
            why = f"the file has {list(there[renamed[name]].shape)}"
        elif close := difflib.get_close_matches(name, unused, 1):
            why += f", which has {close[0]}"
        lines.append(f"{name} {list(here[name].shape)}: {why}")
    if len(lacking) > SHOWN:
        lines.append(f"… and {len(lacking) - SHOWN} more")
    if unused:
        lines.append(f"of the file, not used: {_some(unused)}")
    return noted, ["\n".join([*lines, WAY_OUT])]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
