"""Variants, runs that differ in the seed or the fold alone: their means, and how two compare."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

REPEATS = ("training.run.seed", "data.fold")
QUANTILE, POWER = 0.975, 0.8  # intervals of 95 %, a power of 80 %: the field's conventions
MOST_SEEDS = 1000
Values = dict[tuple[Any, ...], float]
"""Objectives, or differences of them, by seed, fold and number of folds."""


def rank(value: float | None, goal: str) -> float:
    """A number that is lower where a value is better; without a value it is the highest."""
    return math.inf if value is None else -value if goal == "maximize" else value


def summarize(
    runs: Iterable[tuple[str, Mapping[str, Any], float | None]], goal: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each variant, the best mean first, and comparisons of the best with each other.

    `runs` are variant, config and objective; of two with one seed and fold the later one counts.
    """
    variants: dict[str, Values] = {}
    for name, config, objective in runs:
        values = variants.setdefault(name, {})
        if objective is not None:
            values[tuple(config.get(key) for key in (*REPEATS, "data.folds"))] = objective
    rows = [{"variant": name, **estimate(values)} for name, values in variants.items()]
    rows.sort(key=lambda row: rank(row["mean"], goal))
    best, *others = [row["variant"] for row in rows]
    return rows, [compare(variants, best, other) for other in others]


def estimate(values: Values) -> dict[str, Any]:
    """Mean, half its 95 % interval by Student's t, standard deviation, and number of values.

    Folds share training items, so their spread understates the error. As Nadeau and Bengio (2003)
    correct it, 1/n becomes 1/n + 1/(folds - 1), the ratio of validation to training items.
    """
    n, ci95, sd = len(values), None, None
    if n > 1:
        sd = stdev(values.values())
        if sd > 1e-9 * max(map(abs, values.values())):  # less is rounding of equal values
            from scipy.stats import t

            ci95 = float(t.ppf(QUANTILE, n - 1)) * sd * math.sqrt(1 / n + _overlap(values))
    return {"mean": fmean(values.values()) if n else None, "ci95": ci95, "sd": sd, "n": n}


def _overlap(values: Values) -> float:
    folds = {(fold, count) for _, fold, count in values if count}
    return 1 / (max(count for _, count in folds) - 1) if len(folds) > 1 else 0


def compare(variants: dict[str, Values], one: str, other: str) -> dict[str, Any]:
    """The difference of two variants over the seeds and folds that both have."""
    ours, theirs = variants[one], variants[other]
    pairs = {it: ours[it] - theirs[it] for it in ours.keys() & theirs.keys()}
    found, text, needed = estimate(pairs), f"{one} against {other}: ", None
    mean, ci95, n = found["mean"], found["ci95"], found["n"]
    method = "corrected resampled t-test" if _overlap(pairs) else "paired t-test"
    agree = sum(value * mean > 0 for value in pairs.values())
    significant = ci95 is not None and abs(mean) > ci95
    if n < 2:
        text += f"too few seeds or folds in common ({n})"
    elif ci95 is None:
        text += f"a difference of {mean:.4g} in each of {n} pairs, so without an interval"
    else:
        by = f"{'lower' if mean < 0 else 'higher'} by {abs(mean):.4g} ± {ci95:.2g}, {agree} of {n}"
        if significant:
            text += f"{by} ({method})"
        else:
            needed = None if _overlap(pairs) else count_seeds(abs(mean) / found["sd"])
            more = f"; about {needed} seeds would be needed" if needed else ""
            text += f"no significant difference{more} ({by}; {method})"
    result = {"variant": one, "against": other, "method": method, **found, "agree": agree}
    return result | {"significant": significant, "seeds_needed": needed, "text": text}


def count_seeds(effect: float) -> int | None:
    """Seeds with which a paired t-test finds a difference of this many standard deviations."""
    import numpy as np
    from scipy.stats import nct, t

    n = np.arange(2, MOST_SEEDS + 1)
    enough = nct.sf(t.ppf(QUANTILE, n - 1), n - 1, effect * np.sqrt(n)) >= POWER
    return int(n[enough.argmax()]) if enough.any() else None
