"""What must hold before a run starts, found without torch. Each problem names its file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .config import Config
from .config.data import Digits, ImageFolder
from .digits import read_digits
from .engine.manifest import Goal
from .pictures import header_problem, picture_files, picture_problem

# what evaluation.measure returns, and which way each is better
METRICS: dict[str, Goal] = {
    "loss": "minimize",
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
}


def check_data(cfg: Config) -> list[str]:
    """Problems of the data that this mode reads."""
    if cfg.mode == "recognize":
        return []
    if isinstance(cfg.data, Digits):
        return check_digits(cfg.data)
    splits: dict[str, tuple[str, ...]] = {
        "train": ("train", "valid"),
        "evaluate": (cfg.data.held_out,),
        "check": ("train", "valid", "test"),
    }
    problems = []
    for split in splits[cfg.mode]:
        problems += check_folder(split, cfg.data, whole=cfg.mode == "check")
    return problems


def check_digits(data: Digits) -> list[str]:
    """Whether there are as many pictures as the splits want."""
    wanted = data.items.train + data.items.valid + data.items.test
    there = len(read_digits()[0])
    if wanted <= there:
        return []
    return [f"data.items: {wanted} pictures in all; expected at most {there}, which there are"]


def check_folder(split: str, data: ImageFolder, whole: bool) -> list[str]:
    """Problems of one split: its folders, and its pictures' headers, or the pictures as a whole."""
    folder = Path(getattr(data, split))
    if not folder.is_dir():
        return [f"data.{split} = {folder}: no such folder; expected one with a folder per class"]
    there = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not there:
        return [f"data.{split} = {folder}: no folder in it; expected one for each class"]
    if unknown := sorted(set(there) - set(data.classes)):
        quoted = ",".join(f'"{name}"' for name in there)
        return [
            f"data.{split} = {folder}: folders that are not among data.classes: "
            f"{', '.join(unknown)}\n"
            f"expected one for each class: {', '.join(data.classes)}; for those that are there\n"
            f"'data.classes=[{quoted}]'"
        ]
    of_each = {name: picture_files(folder / name) for name in data.classes}
    empty = [str(folder / name) for name, files in of_each.items() if not files]
    problems = [f"data.{split} = {folder}: no picture in {', '.join(empty)}"] if empty else []
    files = [file for of_one in of_each.values() for file in of_one]
    check = picture_problem if whole else header_problem
    step = 1 if whole or not data.check_files else -(-len(files) // data.check_files)
    with ThreadPoolExecutor() as threads:
        damaged = [problem for problem in threads.map(check, files[:: step or 1]) if problem]
    more = [f"{folder}: … and {len(damaged) - 5} more"] if len(damaged) > 5 else []
    return [*problems, *damaged[:5], *more]


def check_input(cfg: Config) -> list[str]:
    """Problems of what mode=recognize is to read."""
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
        if not picture_problem(file):
            return []
    return [f"input = {picture_problem(file)}" for file in files[:5]]
