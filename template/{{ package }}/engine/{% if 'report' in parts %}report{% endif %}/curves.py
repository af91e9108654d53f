"""curves.png: how a run went, a panel for each metric."""

import logging
from pathlib import Path

from .read import Curve, read_curves

log = logging.getLogger(__name__)

COLUMNS = 3


def draw_curves(run_dir: Path) -> None:
    """Draw metrics.jsonl; a failure is only logged."""
    try:
        from matplotlib.figure import Figure

        panels: dict[str, dict[str, Curve]] = {}
        for key, curve in read_curves(run_dir / "metrics.jsonl", []).items():
            split, _, metric = key.partition("/")
            panels.setdefault(metric, {})[split] = curve
        rows = -(-len(panels) // COLUMNS)
        width, height = 4.5 * COLUMNS, 3.2 * rows
        figure = Figure(figsize=(width, height))
        # in inches: a layout engine would draw everything twice
        figure.subplots_adjust(0.6 / width, 0.5 / height, 1 - 0.2 / width, 1 - 0.3 / height)
        figure.subplots_adjust(wspace=0.25, hspace=0.4)
        for place, (metric, curves) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(rows, COLUMNS, place, title=metric, xlabel="iteration")
            for split, (steps, values) in curves.items():
                marker = "o" if len(steps) < 20 else None
                axes.plot(steps, values, label=split, marker=marker, markersize=3)
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(run_dir / "curves.png", dpi=110)
    except Exception as error:  # a plot must not fail a run after hours of training
        log.warning("curves.png could not be drawn: %s", error)
