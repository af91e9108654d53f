"""Checks before a run starts, without torch. Each problem names its file."""

import math
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from .config import Config
from .config.data import Digits, ImageFolder
from .digits import read_digits
from .engine.config import Split
from .engine.parallel import for_each
from .pictures import Look, look_at, picture_files, picture_problem


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    if isinstance(cfg.data, Digits):
        return check_digits(cfg.data) if splits else []
    problems = []
    for split in splits:
        problems += check_folder(split, cfg, cfg.data)
    return problems


def check_digits(data: Digits) -> list[str]:
    """A problem if the splits need more pictures than there are."""
    wanted = data.items.train + data.items.valid + data.items.test
    there = len(read_digits()[0])
    if wanted <= there:
        return []
    return [f"data.items: {wanted} pictures in all; expected at most {there}"]


def check_folder(split: str, cfg: Config, data: ImageFolder) -> list[str]:
    """Problems of one split: its folders, and a sample of its pictures."""
    folder = Path(getattr(data, split))
    if not folder.is_dir():
        return [f"data.{split} = {folder}: no such folder; expected one with a folder per class"]
    there = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not there:
        return [f"data.{split} = {folder}: no folder in it; expected one for each class"]
    given = f"data.{split} = {folder}"
    missing = [name for name in data.classes if name not in there]
    problems = [f"{given}: no folder {name}, which data.classes names" for name in missing]
    for name in (name for name in there if name not in data.classes):
        near = get_close_matches(name, missing or data.classes, n=1)
        way_out = f"did you mean {near[0]}?" if near else "expected one of data.classes"
        problems.append(f"{given}: the folder {name} is not in data.classes; {way_out}")
    files_of = {name: picture_files(folder / name) for name in data.classes if name in there}
    empty = [str(folder / name) for name, files in files_of.items() if not files]
    problems += [f"{given}: no picture in {', '.join(empty)}"] if empty else []
    looks = sample([file for files in files_of.values() for file in files], cfg, data)
    damaged = [look.problem for look in looks if look.problem]
    more = [f"{folder}: … and {len(damaged) - 5} more"] if len(damaged) > 5 else []
    return [*problems, *damaged[:5], *more]


def sample(files: list[str], cfg: Config, data: ImageFolder) -> list[Look]:
    """Look at the pictures of a split that this mode opens, spread evenly."""
    whole = cfg.mode == "check"
    most = data.thorough_files if whole else data.check_files
    step = -(-len(files) // most) or 1 if most else 1
    return for_each(lambda file: look_at(file, whole), files[::step])


def data_notes(cfg: Config, splits: list[Split]) -> Iterator[str]:
    """Notes on data that the model does not see or that was not checked, a line each."""
    if not isinstance(cfg.data, ImageFolder):
        return
    image = cfg.model.image
    seen = f"{image.size} × {image.size} in {'grey' if image.channels == 1 else 'colour'}"
    for split in splits:
        folder = Path(getattr(cfg.data, split))
        files = [file for name in cfg.data.classes for file in picture_files(folder / name)]
        looks = sample(files, cfg, cfg.data)
        if len(looks) < len(files):
            yield f"data.{split}: {len(looks)} of {len(files)} pictures are opened"
        width, height = max((look.size for look in looks), key=math.prod)
        colour = any(not look.is_grey for look in looks)
        if max(width, height) > image.size or (colour and image.channels == 1):
            kind = "colour" if colour else "grey"
            size = f"up to {width} × {height} in {kind}"
            yield f"data.{split}: pictures are {size}; the model sees {seen} (model.image)"
        deep = [look.bits for look in looks if look.bits > 8]
        if deep:
            yield f"data.{split}: {len(deep)} pictures of 16 bits are brought to 8"
        if 0 < deep.count(12) < len(deep):
            yield (
                f"data.{split}: {deep.count(12)} of them have no value above 4095 and are read as "
                "12 bits, 16 times as bright as the others"
            )


def check_input(cfg: Config) -> list[str]:
    """Problems of the files and folders that mode=recognize reads."""
    return [problem for path in cfg.input or [] for problem in input_problems(Path(path))]


def input_problems(path: Path) -> list[str]:
    """Problems of one file or folder."""
    if not path.is_dir():
        problem = picture_problem(path)
        return [f"input = {problem}; expected a picture or a folder of them"] if problem else []
    files = picture_files(path)
    if not files:
        return [f"input = {path}: no picture in this folder, nor below it"]
    for file in files:  # one that can be read is enough; the others are named when they are skipped
        if not picture_problem(Path(file)):
            return []
    return [f"input = {picture_problem(Path(file))}" for file in files[:5]]
