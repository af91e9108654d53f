# Kept by the template; an update merges what you change here.
"""Keys and passwords come from the environment: Hydra and trackers write the config to disk."""

import re

from .aliases import split_override

NAME = re.compile(r"(?:.*\.)?(api_key|password|token|secret)", re.IGNORECASE)
INSIDE = re.compile(r"[{,]\s*['\"]?([\w.]+)['\"]?\s*:")  # the keys of a value like {a: 1, b: 2}

# why a key is refused; the value is never shown
REFUSED = """: a credential does not belong in a config, which every run writes to disk
set it in the environment instead, as WANDB_API_KEY or MLFLOW_TRACKING_TOKEN are"""


def credential_problems(overrides: list[str]) -> list[str]:
    """Overrides that carry a credential."""
    names = []
    for override in overrides:
        _, key, value = split_override(override)
        names += [key, *INSIDE.findall(value)]
    return [name + REFUSED for name in names if NAME.fullmatch(name)]
