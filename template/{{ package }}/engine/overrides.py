"""Overrides and values by their keys, and the keys and names of jobs made from overrides."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

LONGEST_NAME = 120
NOT_IDENTIFYING = ("name", "runs_dir", "resume", "code", "wait", "format")
OF_A_SWEEP = ("hydra.", "hydra/", "sweep.", "slurm.", "engine.")


def split_override(override: str) -> tuple[str, str, str]:
    """Prefix, key and value: ("+", "training.lr", "=1") for `+training.lr=1`."""
    match = re.fullmatch(r"(\+\+|\+|~)?([^=]*)(=.*)?", override, re.DOTALL)
    assert match
    return match[1] or "", match[2], match[3] or ""


def differing_keys(jobs: Collection[Mapping[str, Any]]) -> list[str]:
    """The keys that do not have one value in all of them, in order."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({repr(job.get(key)) for job in jobs}) > 1]


def is_identifying(key: str) -> bool:
    """Whether an override of this key identifies a job, rather than set how a sweep runs."""
    return key not in NOT_IDENTIFYING and not key.startswith(OF_A_SWEEP)


def identifying_overrides(overrides: Iterable[str]) -> list[tuple[str, str, str]]:
    """The overrides that identify a job, as (prefix, key, value)."""
    return [split for split in map(split_override, overrides) if is_identifying(split[1])]


def canonical(value: str) -> str:
    """One spelling of a number: `=3e-4` and `=0.0003` are the same job."""
    try:
        return f"={float(value[1:])}" if re.search(r"[.eE]", value) else value
    except ValueError:
        return value


def job_key(overrides: Sequence[str], safe: Collection[str] = ()) -> frozenset[str]:
    """The identity of a job, whatever the order, the spelling of numbers and the keys in `safe`."""
    return frozenset(
        prefix.strip("+") + key + canonical(value)
        for prefix, key, value in identifying_overrides(overrides)
        if not any(f"{key.replace('/', '.')}.".startswith(f"{it}.") for it in safe)
    )


def job_name(overrides: Sequence[str]) -> str:
    """A directory's name from a job's overrides, in any order; long ones end in a checksum.

    A key is shortened to its last name where that is clear: lr=0.0003 for training.optim.lr=3e-4.
    """
    split = sorted(identifying_overrides(overrides), key=lambda parts: parts[1])
    names = [re.split("[./]", key)[-1] for _, key, _ in split]
    last = Counter(names)
    parts = []
    for name, (prefix, key, value) in zip(names, split, strict=True):
        is_clear = last[name] == 1 and name != "name"
        parts.append(prefix.strip("+") + (name if is_clear else key) + canonical(value))
    name = ",".join(parts) or "defaults"
    readable = re.sub(r"[^\w.,=+-]", "_", name)
    if readable == name and len(name) <= LONGEST_NAME:
        return name
    return f"{readable[:LONGEST_NAME]},{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def leaves(node: Any, path: str = "", within: Any = dict) -> Iterator[tuple[str, Any]]:
    """Each value with its key, in order; empty sections are values, and lists if not `within`."""
    if isinstance(node, within) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{path}.{key}" if path else str(key), within)
    else:
        yield path, node


def as_yaml(value: Any) -> str:
    """A value as YAML writes it, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
