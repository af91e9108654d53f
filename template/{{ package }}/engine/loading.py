"""A trained model for other programs: load("runs/NAME") in a notebook, a script or a server."""

import logging
from pathlib import Path

from torch import nn

from ..config import Config
from ..model import build_model
from . import runs
from .aliases import Aliases
from .checking import Checker, keep_text
from .checkpoints import load_model
from .composing import CONF
from .devices import pick_device
from .errors import refuse
from .manifest import find_checkpoint
from .resuming import misfit, recorded_overrides, unlike_the_run

log = logging.getLogger(__name__)


def load(checkpoint: str | Path, *overrides: str) -> tuple[nn.Module, Config]:
    """The model of a run (its best checkpoint) or of one checkpoint, in evaluation mode.

    The config is that of conf/ today, with the model and data choices that the run recorded and the
    `overrides` given here, such as "training.run.device=cpu". Raises UserError.
    """
    found = find_checkpoint(Path(checkpoint))
    run = runs.run_of(found)
    aliases = Aliases(CONF)
    expanded = keep_text(aliases.expand(list(overrides)))
    refuse(aliases.problems)
    recorded = recorded_overrides(run, expanded) if run else []
    cfg = Checker(CONF, {}).check([*recorded, *expanded])
    refuse(misfit(cfg, found, f"load({str(checkpoint)!r})"))
    for line in unlike_the_run(cfg, run):
        log.warning("unlike the run: %s", line)
    model = load_model(build_model(cfg), found)
    return model.to(pick_device(cfg.training.run.device)).eval(), cfg
