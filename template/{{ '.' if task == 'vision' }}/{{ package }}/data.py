"""Datasets and batches."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from .config import Config
from .config.data import Digits
from .digits import DigitItems, like_the_data
from .engine.config import Split
from .engine.project import Batch, Items
from .pictures import FolderItems, Pixels, to_pixels

Item = tuple[Pixels, int]


def open_items(cfg: Config, split: Split) -> Items[Item]:
    """A sequence of (pixels, class) pairs; training pictures are augmented."""
    augment = cfg.data.augment if split == "train" else None
    prepare = partial(to_pixels, image=cfg.model.image, augment=augment)
    if isinstance(cfg.data, Digits):
        return DigitItems(cfg.data, split, prepare)
    return FolderItems(cfg.data, split, prepare)


def collate(items: list[Item], cfg: Config) -> Batch:
    """Pictures [items, channels, size, size], 8 bits, and the numbers of their classes [items]."""
    pixels, classes = zip(*items, strict=True)
    return {"pictures": torch.from_numpy(np.stack(pixels)), "classes": torch.tensor(classes)}


def prepare_to_recognize(picture: Image.Image, cfg: Config) -> Pixels:
    """A picture preprocessed like the dataset's, [channels, size, size]."""
    if isinstance(cfg.data, Digits):
        picture = like_the_data(picture)
    return to_pixels(picture, cfg.model.image, augment=None)
