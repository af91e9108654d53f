"""A trained model for other programs: a notebook, a script or a server."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from .checkpoints.files import find_checkpoint
from .checkpoints.resume import incompatibilities, recorded_overrides, unlike_the_run
from .checkpoints.store import load_model
from .compose.aliases import Aliases
from .compose.validate import Checker, quote_text
from .distributed.devices import pick_device
from .errors import refuse
from .project import Project
from .run_dir.paths import find_run

log = logging.getLogger(__name__)


def load(project: Project, checkpoint: str | Path, *overrides: str) -> tuple[nn.Module, Any]:
    """The model of a run (its best checkpoint) or of one checkpoint, in eval mode; its config.

    The config is that of conf/ today, with the model and data overrides that the run recorded and
    with `overrides`, such as "training.run.device=cpu". Raises UserError.
    """
    found = find_checkpoint(Path(checkpoint))
    run = find_run(found)
    aliases = Aliases(project.conf)
    expanded = quote_text(project, aliases.expand(list(overrides)))
    refuse(aliases.problems)
    recorded = recorded_overrides(project, run, expanded) if run else []
    cfg = Checker(project).check([*recorded, *expanded])
    refuse(incompatibilities(project, cfg, found, f"load({str(checkpoint)!r})"))
    for line in unlike_the_run(project, cfg, run):
        log.warning("unlike the run: %s", line)
    model = load_model(project.build_model(cfg), found)
    return model.to(pick_device(cfg.training.run.device)).eval(), cfg
