"""Picture files and folders. No torch here: the checks before a run use it too."""

import os
import random
import warnings
from collections.abc import Callable
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from .config.data import Augment, ImageFolder
from .config.model import Image as Seen
from .engine.config import Split
from .engine.errors import UserError

Pixels = npt.NDArray[np.uint8]

# the formats that are found in a folder; Pillow reads some others through external programs
KINDS = "avif bmp gif jp2 jpeg jpg pbm pgm png ppm tga tif tiff webp"
SUFFIXES = tuple(f".{kind}" for kind in KINDS.split())
GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
TWELVE_BITS = 2**12 - 1  # the largest value
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # they are refused


class Unreadable(Exception):
    """Why a file cannot be read as a picture."""


def read_picture(path: Path) -> Image.Image:
    """Read a file as an upright picture of 8 bits per channel, grey or RGB. Raises Unreadable.

    An animation gives its first frame, transparent pixels become white, 16 bits become 8. A 16-bit
    picture without a value above 4095 counts as one of 12 bits, which many cameras write.
    """
    if not path.is_file():
        raise Unreadable("a folder" if path.is_dir() else "no such file")
    try:
        with Image.open(path) as opened:
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            picture: Image.Image = opened
            if picture.mode in ("I", "F"):
                raise Unreadable("32 bits per channel, of unknown range; expected 8 or 16")
            if picture.mode.startswith("I;16"):
                values = np.asarray(picture)
                shift = 4 if values.max() <= TWELVE_BITS else 8
                picture = Image.fromarray((values >> shift).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = in_mode(picture, "L" if picture.mode in GREY else "RGB")
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise Unreadable("too large: more than 178 million pixels") from None
    except Exception as error:  # readers of formats raise many kinds
        raise Unreadable(f"damaged, or of an odd kind ({error})") from None
    if min(picture.size) < 2:
        raise Unreadable(f"only {picture.width} × {picture.height} pixels")
    return picture


def in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in this mode; `convert` alone would copy one that has it."""
    return picture if picture.mode == mode else picture.convert(mode)


class Look(NamedTuple):
    """The properties of a picture file."""

    problem: str | None
    """Why it cannot be read."""
    size: tuple[int, int] = (0, 0)
    is_grey: bool = True
    bits: int = 8
    """Bits per channel; 12 is only known of a decoded picture."""


@cache
def look_at(path: str, whole: bool) -> Look:
    """Decode a file if `whole`, else read its header, which takes a hundredth of the time."""
    try:
        with Image.open(path) as picture:
            size, mode, bits = picture.size, picture.mode, 8
            if mode.startswith("I;16"):
                bits = 12 if whole and np.asarray(picture).max() <= TWELVE_BITS else 16
    except Exception:  # decoding it gives a better message
        return Look(picture_problem(Path(path)))
    if whole or min(size) < 2 or mode in ("I", "F"):
        return Look(picture_problem(Path(path)), size, mode in GREY, bits)
    return Look(None, size, mode in GREY, bits)


def picture_problem(path: Path) -> str | None:
    """Why this file cannot be read, or None; decodes it completely."""
    try:
        read_picture(path)
    except Unreadable as problem:
        return f"{path}: {problem}"
    return None


def oddity(path: Path) -> str | None:
    """How a picture of an unusual kind was converted, or None."""
    with Image.open(path) as picture:
        frames, mode = getattr(picture, "n_frames", 1), picture.mode
    if frames > 1:
        return f"{path} has {frames} frames; the first is read"
    if mode.startswith("I;16"):
        return f"{path} has 16 bits per pixel; they are brought to 8"
    return f"{path} is CMYK; it is brought to RGB" if mode == "CMYK" else None


def picture_files(folder: str | Path) -> list[str]:
    """All files below the folder with the suffix of a picture, except hidden ones."""
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                found += picture_files(entry.path)
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                found.append(entry.path)
    return found


def class_files(folder: Path) -> dict[str, list[str]]:
    """The pictures below each folder in `folder` that has any, except hidden ones."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    found = {p.name: picture_files(p) for p in folders if not p.name.startswith(".")}
    return {name: files for name, files in found.items() if files}


def split_files(data: ImageFolder, split: Split) -> dict[str, list[str]]:
    """The pictures of each class in a split; of each class the same fraction is held out."""
    folder = data.path(split)
    start, found = len(str(folder)), class_files(folder)
    return {n: data.select(split, fs, [file[start:] for file in fs]) for n, fs in found.items()}


def fitted(picture: Image.Image, size: int) -> Image.Image:
    """The centre crop of a picture, resized to size × size pixels."""
    return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)


def varied(picture: Image.Image, size: int, augment: Augment) -> Image.Image:
    """A random augmentation, size × size pixels, drawn with Python's `random`."""
    if any(augment.degrees):
        picture = picture.rotate(random.uniform(*augment.degrees), Image.Resampling.BILINEAR)
    area = picture.width * picture.height * random.uniform(*augment.area)
    aspect = np.exp(random.uniform(*np.log(augment.aspect)))
    width, height = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
    # a crop that does not fit becomes smaller and keeps its aspect
    fits = min(1, picture.width / width, picture.height / height)
    width, height = min(width * fits, picture.width), min(height * fits, picture.height)
    left = random.uniform(0, picture.width - width)
    top = random.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR, box)
    if random.random() < augment.flip:
        picture = ImageOps.mirror(picture)
    picture = ImageEnhance.Brightness(picture).enhance(random.uniform(*augment.brightness))
    return ImageEnhance.Contrast(picture).enhance(random.uniform(*augment.contrast))


def to_pixels(picture: Image.Image, image: Seen, augment: Augment | None) -> Pixels:
    """The network's input [channels, size, size], augmented if `augment` is given."""
    picture = in_mode(picture, "L" if image.channels == 1 else "RGB")
    picture = varied(picture, image.size, augment) if augment else fitted(picture, image.size)
    return np.array(picture).reshape(image.size, image.size, -1).transpose(2, 0, 1)


class FolderItems:
    """The items of one split: (pixels, class) pairs, one of each class in turn.

    The first few batches, to which an evaluation may be limited, then hold all classes.
    """

    def __init__(
        self, data: ImageFolder, split: Split, prepare: Callable[[Image.Image], Pixels]
    ) -> None:
        files = split_files(data, split)
        of_each = (
            [(path, number) for path in files[name]] for number, name in enumerate(data.classes)
        )
        self.pictures = [item for turn in zip_longest(*of_each) for item in turn if item]
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.pictures)

    def files(self) -> list[str]:
        """All pictures."""
        return [path for path, _ in self.pictures]

    def length(self, index: int) -> float:
        """The same for all: pictures have one size."""
        return 1.0

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return self.pictures[index][0]

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        """Pixels [channels, size, size], and the number of the class."""
        path, number = self.pictures[index]
        try:
            return self.prepare(read_picture(Path(path))), number
        except Unreadable as problem:
            raise UserError(f"{path}: {problem}") from None
