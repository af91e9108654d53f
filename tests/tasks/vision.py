"""The task vision, as the shared tests know it."""

import random
from pathlib import Path

from . import OwnData, Task

PICTURES_PER_CLASS = 60
# where in which photo each class is: left, upper, right, lower
CLASSES = {
    "flower": ("flower.jpg", (140, 50, 480, 390)),
    "leaves": ("flower.jpg", (0, 0, 170, 427)),
    "pagoda": ("china.jpg", (60, 90, 360, 390)),
    "portrait": ("grace_hopper.jpg", (130, 30, 400, 340)),
    "trees": ("china.jpg", (350, 250, 640, 427)),
}


def crop_photos(folder: Path) -> None:
    """Write photos/CLASS/: crops of a part of a photo, in which place, size and light vary."""
    import matplotlib
    import sklearn
    from PIL import Image, ImageEnhance

    samples = Path(matplotlib.get_data_path()) / "sample_data"
    images = Path(sklearn.__file__).parent / "datasets" / "images"
    photos = {file.name: file for place in (samples, images) for file in place.iterdir()}
    chance = random.Random(1)
    for name, (source, region) in CLASSES.items():
        (folder / "photos" / name).mkdir(parents=True)
        with Image.open(photos[source]) as opened:
            photo = opened.convert("RGB").crop(region)
        for i in range(PICTURES_PER_CLASS):
            side = int(min(photo.size) * chance.uniform(0.4, 0.9))
            left = chance.randint(0, photo.width - side)
            top = chance.randint(0, photo.height - side)
            crop = photo.crop((left, top, left + side, top + side))
            crop = crop.rotate(chance.uniform(-15, 15), Image.Resampling.BILINEAR)
            crop = ImageEnhance.Brightness(crop).enhance(chance.uniform(0.6, 1.4))
            crop = ImageEnhance.Color(crop).enhance(chance.uniform(0.2, 1.4))
            crop.save(folder / "photos" / name / f"{i}.jpg")


TASK = Task(
    name="vision",
    words=r"\bvision|picture|pixel|\bimage|digits|photo|augment|\bclassif",
    metric="accuracy",
    embedded="digits",
    tested=360,
    small={"data.items.train": 96, "data.items.valid": 7, "data.items.test": 20},
    seed="data.seed",
    own="image_folder",
    own_data=OwnData(
        name="photos",
        write=crop_photos,
        is_learned=lambda metrics: metrics["accuracy"] >= 0.85,
        spoil=r"""
        cp -r photos flawed; echo > flawed/flower/0.jpg
        mkdir flawed/few; cp flawed/trees/1.jpg flawed/few
        cp -r photos seen; mv seen/flower seen/flowers; rm seen/trees/*
        """,
        spoiled="data=image_folder data.train=flawed data.valid=seen",
        mended_by={"mv"},
    ),
    parameters=r"11,\d{3},\d{3}",
    network="Sequential",
    dropout="model.dropout",
    width="model.dims",
    widths=("[16]", "[64, 128]"),
    count="model.image.size",
    flawed={
        "a misspelt key of a model": ("model", "image:\n  sise: 4\n"),
        "another network's key": ("model", "kind: vit\nstem_stride: 4\n"),
        "two channels": ("model", "image:\n  channels: 2\n"),
        "one class": ("data", "classes: [cat]\n"),
        "a share above one": ("data", "augment:\n  flip: 1.5\n"),
        "no column": ("sheet", "columns: 0\n"),
    },
)
