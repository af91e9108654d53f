"""Variants: runs that differ in the seed or the fold alone; their means, and how two compare."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

REPEATS = ("training.run.seed", "data.fold")
QUANTILE, POWER = 0.975, 0.8  # intervals of 95 %, a power of 80 %: the field's conventions
MOST_SEEDS = 1000
Values = dict[tuple[Any, ...], float]
"""Objectives, or differences of them, by seed, fold and number of folds."""


@dataclass
class Variant:
    """Runs that differ in the seed or the fold alone."""

    name: str
    values: Values = field(default_factory=dict)
    runs: int = 0
    """With those that have no objective."""

    def add(self, config: Mapping[str, Any], objective: float | None) -> None:
        """Add a run by its resolved keys; of two with one seed and fold the later one counts."""
        self.runs += 1
        if objective is not None:
            self.values[tuple(config.get(key) for key in (*REPEATS, "data.folds"))] = objective

    def summary(self) -> dict[str, Any]:
        """Its row in a table."""
        return {"variant": self.name, **estimate(self.values)}


def estimate(values: Values) -> dict[str, Any]:
    """Mean, half its 95 % interval by Student's t, standard deviation, and number of values.

    Folds share training items, so their spread understates the error. As Nadeau and Bengio (2003)
    correct it, 1/n becomes 1/n + 1/(folds - 1), the ratio of validation to training items.
    """
    n, ci95, sd = len(values), None, None
    mean = fmean(values.values()) if values else None
    if n > 1:
        sd = stdev(values.values())
        if sd > 1e-9 * max(map(abs, values.values())):  # less is rounding of equal values
            from scipy.stats import t

            ci95 = float(t.ppf(QUANTILE, n - 1)) * sd * math.sqrt(1 / n + _overlap(values))
    return {"mean": mean, "ci95": ci95, "sd": sd, "n": n}


def _overlap(values: Values) -> float:
    folds = {(fold, count) for _, fold, count in values}
    return 1 / (max(count for _, count in folds) - 1) if len(folds) > 1 else 0


def count_seeds(effect: float) -> int | None:
    """Seeds with which a paired t-test finds a difference of this many standard deviations."""
    import numpy as np
    from scipy.stats import nct, t

    n = np.arange(2, MOST_SEEDS + 1)
    enough = nct.sf(t.ppf(QUANTILE, n - 1), n - 1, effect * np.sqrt(n)) >= POWER
    return int(n[enough.argmax()]) if enough.any() else None


def rank(variants: Iterable[Variant], goal: str) -> list[Variant]:
    """Each variant once, the best mean first; those without a value come last."""
    sign = -1 if goal == "maximize" else 1
    different = {id(it): it for it in variants}.values()
    return sorted(
        different, key=lambda it: sign * fmean(it.values.values()) if it.values else math.inf
    )


def compare(ours: Variant, theirs: Variant) -> dict[str, Any]:
    """The difference of two variants over the seeds and folds that both have, and as `text`."""
    both = ours.values.keys() & theirs.values.keys()
    pairs = {it: ours.values[it] - theirs.values[it] for it in both}
    found, needed = estimate(pairs), None
    mean, ci95 = found["mean"], found["ci95"]
    significant = ci95 is not None and abs(mean) > ci95
    if ci95 and mean and not significant and not _overlap(pairs):
        needed = count_seeds(abs(mean) / found["sd"])
    result = {
        "variant": ours.name,
        "against": theirs.name,
        "method": "corrected resampled t-test" if _overlap(pairs) else "paired t-test",
        **found,
        "agree": sum(value * mean > 0 for value in pairs.values()),
        "significant": significant,
        "seeds_needed": needed,
    }
    return result | {"text": describe(result)}


def describe(it: Mapping[str, Any]) -> str:
    """A comparison as a line."""
    what, mean = f"{it['variant']} against {it['against']}", it["mean"]
    if it["n"] < 2:
        return f"{what}: {it['n']} seeds in common, too few to compare them"
    found = f"{'lower' if mean < 0 else 'higher'} by {abs(mean):.4g}"
    if it["ci95"] is None:
        return f"{what}: {found} with each of {it['n']} seeds, so there is no interval"
    found += f" ± {it['ci95']:.2g}, {it['agree']} of {it['n']}"
    if it["significant"]:
        return f"{what}: {found} ({it['method']})"
    needed = f"; about {it['seeds_needed']} seeds would be needed" if it["seeds_needed"] else ""
    return f"{what}: no significant difference{needed} ({found}; {it['method']})"
