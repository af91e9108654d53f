"""Picture files and folders. No torch here: the checks before a run use it too."""

import random
import warnings
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from .config.data import Augment
from .config.model import Image as Seen
from .engine.errors import UserError

Pixels = npt.NDArray[np.uint8]

# what counts as a picture in a folder; Pillow knows more, but reads some of it by other programs
SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm"}
SUFFIXES |= {".tga", ".tif", ".tiff", ".webp"}
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused


class Unreadable(Exception):
    """What keeps a file from being read as a picture."""


def read_picture(path: Path) -> Image.Image:
    """Read a file as an upright picture of 8 bits per channel, grey or RGB. Raises Unreadable.

    Of an animation the first frame is read, 16 bits become 8, and what is transparent white.
    """
    if not path.is_file():
        raise Unreadable("a folder" if path.is_dir() else "no such file")
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("I", "F"):
                raise Unreadable("32 bits per channel, of unknown range; expected 8 or 16")
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise Unreadable("too large: more than 178 million pixels") from None
    except Exception as error:  # a damaged file raises what its format's reader happens to
        raise Unreadable(f"damaged, or of an odd kind ({error})") from None
    if min(picture.size) < 2:
        raise Unreadable(f"only {picture.width} × {picture.height} pixels")
    return picture


def picture_problem(path: Path) -> str | None:
    """What keeps this file from being read, if anything; decodes it whole."""
    try:
        read_picture(path)
    except Unreadable as problem:
        return f"{path}: {problem}"
    return None


def header_problem(path: Path) -> str | None:
    """What its header alone tells, in a hundredth of the time."""
    try:
        with Image.open(path) as picture:
            size, mode = picture.size, picture.mode
    except Exception:  # it has more to say when it is read whole
        return picture_problem(path)
    return picture_problem(path) if min(size) < 2 or mode in ("I", "F") else None


def oddity(path: Path) -> str | None:
    """What was done to a picture that is of no ordinary kind, if anything."""
    with Image.open(path) as picture:
        frames, mode = getattr(picture, "n_frames", 1), picture.mode
    if frames > 1:
        return f"{path} has {frames} frames; the first is read"
    if mode.startswith("I;16"):
        return f"{path} has 16 bits per pixel; they are brought to 8"
    return f"{path} is CMYK; it is brought to RGB" if mode == "CMYK" else None


def picture_files(folder: Path) -> list[Path]:
    """All files below the folder whose suffix is that of a picture, but for hidden ones."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(
        path
        for path in files
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def fitted(picture: Image.Image, size: int) -> Image.Image:
    """The middle of a picture, size × size pixels."""
    return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)


def varied(picture: Image.Image, size: int, augment: Augment) -> Image.Image:
    """A random variation, size × size pixels; Python's own generator draws it."""
    if any(augment.degrees):
        picture = picture.rotate(random.uniform(*augment.degrees), Image.Resampling.BILINEAR)
    area = picture.width * picture.height * random.uniform(*augment.area)
    aspect = np.exp(random.uniform(*np.log(augment.aspect)))
    width, height = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
    # one that does not fit becomes smaller, and keeps its shape
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
    """What the network gets, [channels, size, size]; varied if it is told how."""
    picture = picture.convert("L" if image.channels == 1 else "RGB")
    picture = varied(picture, image.size, augment) if augment else fitted(picture, image.size)
    return np.array(picture).reshape(image.size, image.size, -1).transpose(2, 0, 1)


class FolderItems:
    """The items of one split: (pixels, class) pairs, one of each class in turn.

    So that the first few batches, which an evaluation may be content with, are of all classes.
    """

    def __init__(
        self, folder: Path, classes: list[str], prepare: Callable[[Image.Image], Pixels]
    ) -> None:
        of_each = (
            [(path, number) for path in picture_files(folder / name)]
            for number, name in enumerate(classes)
        )
        self.pictures = [item for turn in zip_longest(*of_each) for item in turn if item]
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.pictures)

    def length(self, index: int) -> float:
        """The same for all: pictures have one size."""
        return 1.0

    def name(self, index: int) -> str:
        """What to call an item in a message."""
        return str(self.pictures[index][0])

    def files(self) -> list[Path]:
        """All pictures."""
        return [path for path, _ in self.pictures]

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        """Pixels [channels, size, size], and the number of the class."""
        path, number = self.pictures[index]
        try:
            return self.prepare(read_picture(path)), number
        except Unreadable as problem:
            raise UserError(f"{path}: {problem}\nmode=check reads every picture") from None
