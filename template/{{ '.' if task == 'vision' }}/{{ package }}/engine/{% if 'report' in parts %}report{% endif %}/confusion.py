"""confusion.png: which classes are taken for which, with the recall and precision of each."""

from collections import Counter
from pathlib import Path

import numpy as np

from .sheet import drawing, elide

MOST = 30  # classes that are readable
CELL, LETTER = 0.42, 0.085  # inches


def draw_confusion(file: Path, classes: list[str], pairs: Counter[tuple[str, str]]) -> None:
    """Draw `pairs`, how many items there are of each (label, prediction)."""
    counts = np.array([[pairs[label, name] for name in classes] for label in classes])
    right, labels, predictions = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    shown = np.sort(np.argsort(2 * right - labels - predictions, kind="stable")[:MOST])
    title = f"{right.sum()} of {counts.sum()} right; rows: true classes, columns: predicted ones"
    if len(shown) < len(classes):
        title += f"\nthe {len(shown)} most confused of {len(classes)} classes"
    names = [elide(classes[i], 24) for i in shown]
    end = len(shown) + 0.2  # where recall and precision stand
    longest = max(map(len, names))
    beside, above = (0.2 + LETTER * max(longest, len(it)) for it in ("precision", "recall"))
    side = CELL * (len(shown) + 1.4)
    width, height = max(beside + side, LETTER * 60) + 0.1, above + side + 0.6
    with drawing(file) as figure:
        figure.set_size_inches(width, height)
        axes = figure.add_axes((beside / width, 0.1 / height, side / width, side / height))
        shares = counts[np.ix_(shown, shown)] / np.maximum(1, labels[shown])[:, None]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in zip(*counts[np.ix_(shown, shown)].nonzero(), strict=True):
            count = counts[shown[row], shown[column]]
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, count, ha="center", va="center", color=colour, size=9)
        for place, i in enumerate(shown):
            for x, y, all_of_it in ((end, place, labels[i]), (place, end, predictions[i])):
                text = f"{100 * right[i] / all_of_it:.0f} %" if all_of_it else "–"
                axes.text(x, y, text, ha="center", va="center", size=8)
        axes.set(xlim=(-0.5, len(shown) + 0.9), ylim=(len(shown) + 0.9, -0.5))
        ticks = [*range(len(shown)), end]
        axes.set_xticks(ticks, [*names, "recall"], rotation=90, parse_math=False)
        axes.set_yticks(ticks, [*names, "precision"], parse_math=False)
        axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        figure.text(0.1 / width, 1 - 0.1 / height, title, va="top", size=11)
