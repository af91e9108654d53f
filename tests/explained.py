"""What mode=explain says, held against Hydra: run in a project, prints what is wrong.

`python explained.py PACKAGE COUNT SEED DATA SEED_KEY KEY`. Values are those that Hydra composes;
changing the line that is named as the origin changes the value; without it, the next place in the
history counts.
"""

import importlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

PACKAGE, COUNT, SEED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# of the task: its dataset, the key that seeds it, and a key of its models
EMBEDDED, SEEDING, COUNTED = sys.argv[4:7]
sys.path.insert(0, ".")
explaining: Any = importlib.import_module(f"{PACKAGE}.engine.compose.explain")
composing: Any = importlib.import_module(f"{PACKAGE}.engine.compose.compose")
values: Any = importlib.import_module(f"{PACKAGE}.engine.overrides")

CONF = Path("conf")
MARK = "perturbed"
VALUES = [
    "training.optim.lr=3e-4",
    "training.optim.betas=[0.5,0.6]",
    "training.run.seed=7",
    "training/optim/scheduler=linear",
    f"++{SEEDING}=5",
    "name=chosen",
    "++training.run.extra=1",
    "++notes.about=this",
    "~training.optim.grad_clip",
    f"+data@teacher={EMBEDDED}",
    f"{COUNTED}=${{training.run.seed}}",
    "init=null",
]


def combinations(chance: random.Random) -> Iterator[list[str]]:
    """Every shipped option alone, then COUNT random ones together."""
    groups = {
        group: [f"{group}={file.stem}" for file in sorted((CONF / group).glob("*.yaml"))]
        for group in (
            "model",
            "training",
            "training/optim",
            "data",
            "tracker",
            "engine",
            "experiment",
            "sweep",
        )
    }
    for options in groups.values():
        yield from ([option] for option in options)
    for _ in range(COUNT):
        chosen = [chance.choice(options) for options in groups.values() if chance.random() < 0.5]
        yield chosen + chance.sample(VALUES, chance.randrange(4))


def composed(conf: Path, overrides: list[str], key: str) -> Any:
    cfg = composing.compose(conf, overrides)
    return OmegaConf.select(cfg, key, default="(missing)")


def without_interpolation(conf: Path, overrides: list[str], key: str) -> Any:
    """What stands at a key, not what it stands for."""
    node: Any = OmegaConf.to_container(composing.compose(conf, overrides), resolve=False)
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return "(missing)"
        node = node[part]
    return node


def edited(place: str, conf: Path, new: str | None) -> None:
    """Put another value at file:line, or delete the line."""
    name, line = place.rsplit(":", 1)
    file = conf.parent / name
    lines = file.read_text().splitlines(keepends=True)
    if new is None:
        del lines[int(line) - 1]
        section = lines[int(line) - 2]
        following = next((text for text in lines[int(line) - 1 :] if text.strip()), "")
        if section.rstrip().endswith(":") and depth(following) <= depth(section):
            lines[int(line) - 2] = section.rstrip() + " {}\n"  # else it would be null
    else:
        key = lines[int(line) - 1].partition(":")[0]
        lines[int(line) - 1] = f"{key}: {new}\n"
    file.write_text("".join(lines))


def depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def check(overrides: list[str], chance: random.Random) -> Iterator[str]:
    cfg = composing.compose(CONF, overrides)
    origins = explaining.find_origins(CONF, overrides, {})
    entries = {entry.key: entry for entry in explaining.find_entries(cfg, origins)}
    flat = dict(values.leaves(OmegaConf.to_container(cfg, resolve=False)))
    if entries.keys() != flat.keys():
        yield f"keys differ: {entries.keys() ^ flat.keys()}"
    for key, entry in entries.items():
        value = OmegaConf.select(cfg, key)
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        if value != entry.value or entry.raw != flat[key]:
            yield f"{key} is {value!r}, explained as {entry.value!r}"
        if not entry.history:
            yield f"{key} has no origin"
    with_history = [key for key, entry in entries.items() if len(entry.history) > 1]
    chosen = [
        chance.choice(sorted(entries)),
        *([chance.choice(with_history)] if with_history else []),
    ]
    for key in chosen:
        *before, now = entries[key].history
        with tempfile.TemporaryDirectory() as folder:
            conf = Path(folder, "conf")
            shutil.copytree(CONF, conf)
            rest = overrides
            if now[1].startswith("the command line: "):
                override = now[1].removeprefix("the command line: ")
                rest = [o for o in overrides if o != override]
                changed = f"++{key}={MARK}"
                value = without_interpolation(conf, [*rest, changed], key)
            else:
                edited(now[1], conf, MARK)
                value = without_interpolation(conf, overrides, key)
                shutil.rmtree(conf)
                shutil.copytree(CONF, conf)
                edited(now[1], conf, None)
            if value != MARK:
                yield f"{key}: {now[1]} is not where it comes from"
            left = without_interpolation(conf, rest, key)
            expected = before[-1][0] if before else "(missing)"
            if before and values.as_yaml(left) != expected and str(left) != _plain(expected):
                yield f"{key}: without {now[1]} it is {left!r}, not {expected!r}"
            # a null may stand in the place of a section, which has no history of its own
            if not before and left != "(missing)" and not isinstance(left, dict):
                yield f"{key}: without {now[1]} it is still {left!r}"


def _plain(text: str) -> str:
    return str(OmegaConf.create(f"key: {text}").key)


def main() -> None:
    chance = random.Random(SEED)
    os.environ["RUN_NAME"] = "explained"
    count = 0
    for overrides in combinations(chance):
        count += 1
        for problem in check(overrides, chance):
            print(f"{overrides}: {problem}")
    print(f"{count} combinations")


main()
