"""recognized.png of two features: what the model predicts on their plane, and the rows on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .sheet import drawing, elide

SIDE = 200  # places where the model is asked, both ways
# colours that the colour-blind can tell apart (Okabe and Ito); more classes use them again
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]

Rows = Sequence[dict[str, Any]]
"""The `prediction` for each row and, where it is known, its `label`: a class or a number."""


def draw_plane(
    file: Path,
    names: list[str],
    classes: list[str],
    points: np.ndarray,
    rows: Rows,
    predict: Callable[[np.ndarray], Rows],
) -> None:
    """Draw the points [rows, 2] in the colours of their labels or, without these, predictions."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, high - low, 1) / 20
    (left, bottom), (right, top) = low - margin, high + margin
    grid = np.meshgrid(np.linspace(left, right, SIDE), np.linspace(bottom, top, SIDE))
    asked = predict(np.stack(grid, axis=-1).reshape(-1, 2).astype(points.dtype))
    plane = to_numbers([it["prediction"] for it in asked], classes).reshape(SIDE, SIDE)
    shown = to_numbers([it.get("label", it["prediction"]) for it in rows], classes)
    known = [it for it in rows if "label" in it]
    wrong = [i for i, it in enumerate(rows) if it.get("label", "") not in ("", it["prediction"])]
    with drawing(file) as figure:
        figure.set_size_inches(7, 6)
        axes = figure.add_axes((0.13, 0.1, 0.66, 0.82))
        title = f"{len(rows)} rows"
        if classes:
            from matplotlib.colors import ListedColormap

            colours = {"cmap": ListedColormap(COLOURS), "vmin": -0.5, "vmax": len(COLOURS) - 0.5}
            plane, shown = plane % len(COLOURS), shown % len(COLOURS)
            title += f", {len(known) - len(wrong)} of {len(known)} right" * bool(known)
            axes.plot(*points[wrong].T, "x", color="black", markersize=9, label="wrong", zorder=3)
            for name, colour in zip(classes, COLOURS, strict=False):
                axes.plot([], [], "o", color=colour, label=elide(name, 16))
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        else:
            both = np.concatenate([plane.ravel(), shown])
            colours = {"cmap": "viridis", "vmin": both.min(), "vmax": both.max()}
        extent = (left, right, bottom, top)
        image = axes.imshow(plane, origin="lower", extent=extent, aspect="auto", **colours)
        image.set_alpha(0.4 if classes else 1)
        axes.scatter(*points.T, c=shown, s=16, edgecolors="white", linewidths=0.5, **colours)
        if not classes:
            figure.colorbar(image, ax=axes)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(names[0], parse_math=False)
        axes.set_ylabel(names[1], parse_math=False)


def to_numbers(answers: Sequence[Any], classes: list[str]) -> np.ndarray:
    """Numbers for colours: those of the classes, or the answers themselves."""
    return np.array([classes.index(it) if classes else it for it in answers])
