"""scikit-learn's handwritten digits, and other pictures preprocessed like them."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from .config.data import Digits
from .engine.config import Split
from .pictures import Pixels, Unreadable

SPLITS: tuple[Split, ...] = ("test", "valid", "train")  # a larger train changes no other split


@cache  # three splits read it
def read_digits() -> tuple[Pixels, Pixels]:
    """All pictures [items, 8, 8], ink bright, and their digits [items]."""
    table = np.loadtxt(digits_file(), delimiter=",", dtype=np.uint8)
    values, digits = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    return (values.astype(float) * 255 / 16).astype(np.uint8), digits  # values are from 0 to 16


def digits_file() -> Path:
    """The path of scikit-learn's data file; importing scikit-learn to read it takes a second."""
    package = find_spec("sklearn")
    folder = Path(str(package.origin if package else "")).parent
    return folder / "datasets" / "data" / "digits.csv.gz"


class DigitItems:
    """The items of one split: (pixels, class) pairs."""

    def __init__(
        self, data: Digits, split: Split, prepare: Callable[[Image.Image], Pixels]
    ) -> None:
        pictures, digits = read_digits()
        order = np.random.default_rng(data.seed).permutation(len(digits))
        ends = np.cumsum([getattr(data.items, name) for name in SPLITS])
        parts = dict(zip(SPLITS, np.split(order, ends), strict=False))
        places = [data.place(split, i) for i in range(data.count(split))]
        self.numbers = [parts[name][i] for name, i in places]
        self.pictures, self.digits = pictures, digits
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.numbers)

    def files(self) -> list[Path]:
        """The file of all digits."""
        return [digits_file()]

    def length(self, index: int) -> float:
        """The same for all: pictures have one size."""
        return 1.0

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return f"digit {self.numbers[index]}"

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        """Pixels [channels, size, size], and the number of the class."""
        number = self.numbers[index]
        picture = Image.fromarray(self.pictures[number])
        return self.prepare(picture), int(self.digits[number])


def like_the_data(picture: Image.Image) -> Image.Image:
    """A picture of one digit, preprocessed as the data were: 8 × 8 pixels, the ink bright.

    Its ink, bright or dark, is cropped, centred in 32 × 32 pixels and averaged in 4 × 4 blocks.
    Raises Unreadable if there is no ink.
    """
    grey = np.asarray(picture.convert("L"), dtype=float)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    contrast = np.abs(grey - np.median(border))
    ink = contrast > contrast.max() / 2
    if not ink.any():
        raise Unreadable("all of one colour, so without a digit")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    cropped = Image.fromarray(ink.astype(np.uint8) * 255).crop(box)
    scale = 32 / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    square = Image.new("L", (32, 32))
    resized = cropped.resize((width, height), Image.Resampling.BOX)
    square.paste(resized, ((32 - width) // 2, (32 - height) // 2))
    return square.resize((8, 8), Image.Resampling.BOX)
