"""curves.png: loss and objective first; learning rate, speed and memory in a strip below."""

from pathlib import Path
from typing import Any

import numpy as np

from .read import Curve, read_curves
from .sheet import drawing, elide

# colours that the colour-blind can tell apart (Okabe and Ito)
STYLES = {"train": ("#0072B2", "-"), "valid": ("#D55E00", "--"), "test": ("#009E73", ":")}
BEST = "best checkpoint"
STRIP = ("lr", "iterations_per_second", "items_per_second", "data_wait")
MIN_SPAN = 0.1  # of the y axis, relative to its middle: 0.3 % must not fill a panel
WIDTH, HEIGHT, LOW = 4.5, 3.0, 1.8  # inches of a panel


def draw_curves(run_dir: Path, name: str, metric: str, best: tuple[int, float] | None) -> None:
    """Draw metrics.jsonl; `best` is the iteration and the objective of the best checkpoint."""
    with drawing(run_dir / "curves.png") as figure:
        panels: dict[str, dict[str, Curve]] = {}
        for key, curve in read_curves(run_dir / "metrics.jsonl", []).items():
            split, _, panel = key.partition("/")
            panels.setdefault(panel, {})[split] = curve
        strip = [panel for panel in panels if panel in STRIP or panel.endswith("memory_gb")]
        large = [panel for panel in panels if panel not in strip]
        large.sort(key=lambda it: (it != "loss", it != metric, "valid" not in panels[it]))
        columns = min(3, max(2, len(large)))
        rows = -(-len(large) // columns)
        width, height = WIDTH * columns, HEIGHT * rows + LOW * bool(strip) + 0.4
        figure.set_size_inches(width, height)
        for place, panel in enumerate(large + strip):
            row, column = divmod(place, columns)
            left, top, wide, high = WIDTH * column, HEIGHT * row, WIDTH, HEIGHT
            if panel in strip:
                wide, top, high = width / len(strip), HEIGHT * rows, LOW
                left = wide * (place - len(large))
            # in inches: a layout engine would draw everything twice
            box = left + 0.6, height - top - high, wide - 0.9, high - 0.7
            axes = figure.add_axes(np.divide(box, (width, height) * 2))
            title = panel.replace("_", " ")
            draw_panel(axes, panels[panel])
            if panel in strip:
                axes.set_ylim(bottom=0)
            elif panel == metric and best:
                axes.axvline(best[0], color="black", linestyle=":", linewidth=1)
                axes.plot(*best, "*", color="black", markersize=10, label=BEST)
                title += f": best {best[1]:.4g} at iteration {best[0]}"
            axes.set_title(title, size=10)
        lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        shown = [lines[label] for label in (*STYLES, BEST) if label in lines]
        figure.legend(handles=shown, loc="upper right", ncols=4, frameon=False)
        figure.text(0.2 / width, 1 - 0.3 / height, elide(name, 50), size=13, parse_math=False)


def draw_panel(axes: Any, curves: dict[str, Curve]) -> None:
    """Draw the curve of each split, on a range of values that does not exaggerate."""
    values = np.concatenate([values for _, values in curves.values()])
    values = values[np.isfinite(values)]
    for split, (steps, of_split) in curves.items():
        colour, line = STYLES.get(split, ("grey", "-"))
        marker = "o" if len(steps) < 20 else None
        axes.plot(steps, of_split, line, color=colour, label=split, marker=marker, markersize=3)
    axes.grid(alpha=0.3)
    axes.set_xlim(left=0)
    axes.locator_params(nbins=4)
    axes.ticklabel_format(axis="y", scilimits=(-2, 5))
    if values.size:
        middle, span = (values.max() + values.min()) / 2, values.max() - values.min()
        half = 0.55 * max(span, MIN_SPAN * abs(middle)) or 0.5
        axes.set_ylim(middle - half, middle + half)
