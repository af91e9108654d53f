"""Checks before a run starts, without torch. Problems name their file.

The last one of a list adds the command that fixes them.
"""

import math
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from .config import Config
from .config.data import Digits, ImageFolder
from .digits import read_digits
from .engine.config import Split
from .engine.errors import UserError
from .engine.parallel import for_each
from .own_files import command, fold_problems
from .pictures import Look, class_files, look_at, picture_files, picture_problem, split_files


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of these splits."""
    if isinstance(cfg.data, Digits):
        return check_digits(cfg.data) if splits else []
    keys = dict.fromkeys(map(cfg.data.key, splits))
    return [problem for key in keys for problem in check_folder(key, cfg, cfg.data)]


def check_digits(data: Digits) -> list[str]:
    """A problem if the splits need more pictures than there are."""
    wanted = data.items.train + data.items.valid + data.items.test
    there = len(read_digits()[0])
    if wanted <= there:
        return []
    fewer = command(f"data.items.train={max(1, data.items.train + there - wanted)}")
    return [f"data.items: {wanted} pictures in all; expected at most {there}\n{fewer}"]


def find_classes(cfg: Config) -> list[str]:
    """The folders of data.train that have pictures, known classes first. Raises UserError."""
    data = cfg.data
    if not isinstance(data, ImageFolder):
        own = command("mode=describe", "data=image_folder", "data.train=FOLDER")
        raise UserError(f"data = {data.kind}: expected your own pictures\n{own}")
    known, there = data.classes, list(class_files(Path(data.train)))
    if len(there) < 2:
        other = command("mode=describe", "data.train=FOLDER")
        is_there = Path(data.train).is_dir()
        found = f"{len(there)} folders with pictures" if is_there else "no such folder"
        expected = f"expected at least 2, one for each class\n{other}"
        raise UserError(f"data.train = {data.train}: {found}; {expected}")
    return sorted(there, key=lambda name: known.index(name) if name in known else len(known))


def check_folder(key: Split, cfg: Config, data: ImageFolder) -> list[str]:
    """Problems of one path: its folders, and a sample of their pictures."""
    folder, fewest = data.path(key), data.count_splits(key)
    given, files_of = f"data.{key} = {folder}", class_files(folder)
    if not files_of:
        what = "no folder of pictures in it" if folder.is_dir() else "no such folder"
        other = command(f"data.{key}=FOLDER")
        return [f"{given}: {what}; expected a folder for each class, as in cat/1.jpg\n{other}"]
    describe = command("mode=describe")
    if not data.classes:
        return [f"data.classes = []: expected the folders in {data.train}; to set it:\n{describe}"]
    missing = [name for name in data.classes if name not in files_of]
    unknown = [name for name in files_of if name not in data.classes]
    problems = [f"{given}: no pictures of {name}, which data.classes names" for name in missing]
    for name in unknown:
        problems.append(f"{given}: the folder {name} is not in data.classes")
        if near := get_close_matches(name, missing or data.classes, n=1):
            rename = shlex.join(["mv", f"{folder}/{name}", f"{folder}/{near[0]}"])
            problems[-1] += f"; did you mean {near[0]}?\n{rename}"
    if problems and key == "train":
        problems[-1] += f"\nto set data.classes anew:\n{describe}"
    elif problems:
        held_out = command(f"data.{key}=0.1")
        problems[-1] += f"\nto hold out a part of data.train instead:\n{held_out}"
    for name in (name for name, files in files_of.items() if len(files) < fewest):
        hide = shlex.join(["mv", f"{folder}/{name}", f"{folder}/.{name}"])
        count = f"{len(files_of[name])} pictures of {name}"
        few = f"{count}; expected at least {fewest}, one for each split"
        problems.append(f"{given}: {few}; to leave it out:\n{hide} && {describe}")
    if not problems and key == "train":
        problems = fold_problems(data, data.test, {it: len(fs) for it, fs in files_of.items()})
    files = [file for name in data.classes for file in files_of.get(name, [])]
    looks = sample(files, cfg, data).items()
    damaged = {file: look.problem for file, look in looks if look.problem}
    shown = list(damaged.values())[:5]
    shown += [f"{folder}: … and {len(damaged) - 5} more"] if len(damaged) > 5 else []
    if damaged:
        first = next(iter(damaged))
        shown[-1] += f"\nto leave the first one out: {shlex.join(['mv', first, f'{first}.bad'])}"
    return problems + shown


def sample(files: list[str], cfg: Config, data: ImageFolder) -> dict[str, Look]:
    """Look at the pictures of a split that this mode opens, spread evenly."""
    whole = cfg.mode == "check"
    most = data.thorough_files if whole else data.check_files
    step = -(-len(files) // most) or 1 if most else 1
    looks = for_each(lambda file: look_at(file, whole), files[::step])
    return dict(zip(files[::step], looks, strict=True))


def data_notes(cfg: Config, splits: list[Split]) -> Iterator[str]:
    """Notes on data that the model does not see or that was not checked, a line each."""
    data, image = cfg.data, cfg.model.image
    if not isinstance(data, ImageFolder):
        return
    seen = f"{image.size} × {image.size} in {'grey' if image.channels == 1 else 'colour'}"
    for split in splits:
        files = [file for files in split_files(data, split).values() for file in files]
        looks = sample(files, cfg, data).values()
        if data.key(split) != split:
            yield f"data.{split}: {len(files)} pictures of {data.train}, held out"
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
