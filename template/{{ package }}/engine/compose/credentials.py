"""Keys and passwords come from the environment: Hydra and trackers write the config to disk."""

import re
from collections.abc import Iterator
from typing import Any

from .. import see
from ..overrides import split_override

# names whose values are always credentials
NAME = re.compile(
    r".*(api_?key|access_?key|private_?key|secret(_?key)?|pass(word|wd|phrase)|credentials?"
    r"|(access|api|auth|bearer|gh|github|gitlab|hf|hub|refresh|secret|session|wandb)_?token)|token",
    re.I,
)
# eos_token and pad_token are not credentials, unless their value looks like one
MAYBE = re.compile(r".*_token", re.I)
LONG_KEY = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.-]{20,}")
# as GitHub, GitLab, Hugging Face, OpenAI, Slack and AWS issue them
ISSUED = re.compile(
    r"\b(gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-)[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b"
)
# user:password@host of any address, user@host of a web address, and a query's parameters
IN_ADDRESS = re.compile(r"\b[a-z][\w+.-]*://[^/\s@:]*:[^/\s@]+@|\bhttps?://[^/\s@]+@", re.I)
QUERY = re.compile(r"[?&;]([\w.-]+)=[^&\s]")
SIGNED = re.compile(r"(.*[-_])?(key|sig|signature)", re.I)
FROM_ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)")
INSIDE = re.compile(r"""[{,]\s*['"]?([\w.-]+)['"]?\s*:\s*['"]?([^,}'"]*)""")  # {a: 1, b: 2}

# why a key is refused; the value is never shown
REFUSED = f""": a credential does not belong in a config, which every run writes to disk
set it in the environment, as WANDB_API_KEY or MLFLOW_TRACKING_TOKEN are{see("config.md#safety")}"""


def is_credential(key: str, value: Any) -> bool:
    """Whether a value is a credential, by its key, its form, or the variables that it reads."""
    if isinstance(value, list):
        return any(is_credential(key, part) for part in value)
    if isinstance(value, dict):
        return any(is_credential(str(name), part) for name, part in value.items())
    text = str(value)
    if value is None or isinstance(value, bool) or text in ("", "null"):
        return False
    name = key.rpartition(".")[2]
    variables = FROM_ENVIRONMENT.findall(text)
    parameters = QUERY.findall(text) if "://" in text else []
    return bool(
        NAME.fullmatch(name)
        or (MAYBE.fullmatch(name) and (LONG_KEY.fullmatch(text) or variables))
        or ISSUED.search(text)
        or IN_ADDRESS.search(text)
        or any(NAME.fullmatch(it) or SIGNED.fullmatch(it) for it in parameters)
        or any(NAME.fullmatch(it) for it in variables)
    )


def credential_problems(overrides: list[str]) -> Iterator[str]:
    """Overrides that carry a credential."""
    for override in overrides:
        _, key, value = split_override(override)
        for name, text in [(key, value[1:].strip("'\"")), *INSIDE.findall(value)]:
            if is_credential(name, text):
                yield name + REFUSED
