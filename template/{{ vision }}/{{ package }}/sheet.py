"""The contact sheet of mode=recognize."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from .config.data import Sheet

BACKGROUND, INK = "white", "black"
COLOURS = {True: "green", False: "red", None: "grey"}


@dataclass(frozen=True)
class Cell:
    """One picture and its prediction."""

    picture: Image.Image
    read: str
    probability: float
    label: str | None
    right: bool | None  # None: unknown


def most_doubtful(cells: list[Cell], count: int) -> list[Cell]:
    """The first `count` cells: wrong predictions, then the least probable ones."""
    return sorted(cells, key=lambda cell: (cell.right is not False, cell.probability))[:count]


def draw_sheet(cells: list[Cell], sheet: Sheet, path: Path) -> None:
    """Draw pictures above their predictions: right ones framed green, wrong red, others grey."""
    if len(cells) > sheet.pictures:
        cells = most_doubtful(cells, sheet.pictures)
    side, line = sheet.pixels, sheet.pixels // 5
    cell_width, cell_height = side + line, side + 3 * line
    columns = min(sheet.columns, len(cells))
    rows = -(-len(cells) // columns)
    # Matplotlib's font: Latin, Greek, Cyrillic and more, but no East Asian scripts
    font_file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(font_file, size=max(8, line * 3 // 4))
    page = Image.new("RGB", (columns * cell_width, rows * cell_height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for i, cell in enumerate(cells):
        left, top = i % columns * cell_width + line // 2, i // columns * cell_height + line // 2
        inset_left = left + (side - cell.picture.width) // 2
        inset_top = top + (side - cell.picture.height) // 2
        page.paste(cell.picture, (inset_left, inset_top))
        colour = COLOURS[cell.right]
        frame = (left - 2, top - 2, left + side + 1, top + side + 1)
        draw.rectangle(frame, outline=colour, width=2)
        mark = {True: "✓ ", False: "✗ ", None: ""}[cell.right]
        under = [(mark, cell.read, f" {100 * cell.probability:.0f} %")]
        under += [("is ", str(cell.label), "")] if cell.right is False else []
        for number, (before, name, after) in enumerate(under):
            while draw.textlength(before + name + after, font) > side + line // 2 and name != "…":
                name = name.removesuffix("…")[:-1] + "…"
            where = (left, top + side + line // 4 + number * line)
            draw.text(where, before + name + after, fill=colour if mark else INK, font=font)
    page.save(path)
