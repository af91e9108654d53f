# Kept by the template; an update merges what you change here.
"""Overrides that change nothing, which mode=check lists: often a key that was meant otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .aliases import split_override
from .checking import Bases, quickly
from .sweeping import swept

OF_A_SEARCH = ("sweep.n_trials", "sweep.parallel", "sweep.seed")


def unused_overrides(
    conf: Path,
    overrides: list[str],
    typed: dict[str, str],
    recorded: Callable[[list[str]], list[str]],
) -> Iterator[str]:
    """Each as it was `typed`. Of two that do the same, or of which the last counts, the first.

    `recorded` gives the choices of a checkpoint's run that stand where none are given.
    """
    bases: Bases = {}
    many = swept(overrides)
    kept = [override for override in overrides if split_override(override)[1] not in many]
    whole = _values(conf, recorded(kept) + kept, bases)
    for override in list(kept):
        key = split_override(override)[1]
        if key in ("mode", "name"):
            continue
        if key in OF_A_SEARCH and whole["sweep"]["sampler"] == "grid":
            yield f"unused override: {typed[override]} (no search is chosen; sweep=optuna is one)"
            continue
        rest = list(kept)
        rest.remove(override)
        try:
            same = _values(conf, recorded(rest) + rest, bases) == whole
        except Exception:  # another override needs it
            continue
        if same:
            yield f"unused override: {typed[override]} (the config is the same without it)"
            kept = rest


def _values(conf: Path, overrides: list[str], bases: Bases) -> Any:
    """All values, Hydra's own among them but for its record of the command line."""
    cfg: Any = quickly(conf, overrides, bases, own_section=True)
    values: Any = OmegaConf.to_container(cfg, resolve=False)
    values["hydra"].pop("overrides")
    values["hydra"]["job"].pop("override_dirname", None)
    values["hydra"]["runtime"].pop("choices", None)
    return values
