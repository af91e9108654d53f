"""Histories of runs by old names, read in one process: run in a project, prints what is wrong.

`python renamed.py PACKAGE KIND COUNT RUN`. KIND is key, value or option, RUN a job of a sweep; each
history is a copy of it whose records have the old names that conf/renamed.yaml maps.
"""

import copy
import dataclasses
import importlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PACKAGE, KIND, COUNT, RUN = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
sys.path.insert(0, ".")


def engine(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.engine.{name}")


resume, grid, read = engine("checkpoints.resume"), engine("sweeps.grid"), engine("report.read")
files, values, errors = engine("checkpoints.files"), engine("overrides"), engine("errors")
aliases, validate = engine("compose.aliases"), engine("compose.validate")
PROJECT = importlib.import_module(f"{PACKAGE}.project").PROJECT
BASE = yaml.safe_load((RUN / ".hydra/overrides.yaml").read_text())
TODAY = validate.Checker(PROJECT)  # composes the files of a combination of groups once
PLAIN = TODAY.check(BASE).model_dump()
GROUPS = ["model", "training", "training/optim", "training/optim/scheduler", "tracker"]


def old_key(config: dict[str, Any], new: str, old: str) -> None:
    """Move a key or a section to its old name."""
    *sections, last = new.split(".")
    node = config
    for section in sections:
        node = node[section]
    value = node.pop(last)
    *sections, last = old.split(".")
    node = config
    for section in sections:
        node = node.setdefault(section, {})
    node[last] = value


def draw(number: int, chance: random.Random, config: dict[str, Any]) -> dict[str, Any]:
    """A rename: today's override and the old one, the lines that map it, and the old config."""
    then = copy.deepcopy(config)
    plain = {
        key: value
        for key, value in values.leaves(config)
        if key.split(".")[0] in ("model", "training", "data")
        and isinstance(value, bool | int | float | str)
        and key.count(".") >= 1
        and key.rpartition(".")[2] != "kind"
    }
    key = chance.choice(sorted(plain))
    value: Any = values.as_yaml(plain[key])
    if KIND == "option":
        group = GROUPS[number % len(GROUPS)]
        options = sorted(file.stem for file in (PROJECT.conf / group).glob("*.yaml"))
        chosen = chance.choice([option for option in options if option != "fullrun"])
        old = f"former{number}"
        return {
            "now": f"{group}={chosen}",
            "then": f"{group}={old}",
            "lines": [{f"{group}={old}": chosen}],
            "experiment": {"defaults": [{f"override /{group}": old}]},
        }
    if KIND == "value":
        old_key(then, key, key)
        section: Any = then
        for part in key.split(".")[:-1]:
            section = section[part]
        section[key.rpartition(".")[2]] = "former"
        lines = [{f"{key}=former": plain[key]}]
        if number % 3 == 0:  # in two steps
            lines = [{f"{key}=former": "later"}, {f"{key}=later": plain[key]}]
        old = f"{key}=former"
        experiment: Any = "former"
    else:
        section = key.rpartition(".")[0]
        before = f"{section}.former{number}"
        lines = [{before: key}]
        if number % 3 == 1:  # a section with all its keys
            before = f"{section.split('.')[0]}.sec{number}.{key.rpartition('.')[2]}"
            if "." in section:
                lines = [{before.rpartition(".")[0]: section}]
                old_key(then, section, before.rpartition(".")[0])
            else:
                lines = [{before: key}]
                old_key(then, key, before)
        else:
            if number % 3 == 2:  # in two steps, through another section
                lines = [{before: f"training.mid{number}"}, {f"training.mid{number}": key}]
            old_key(then, key, before)
        old, experiment = f"{before}={value}", plain[key]
    nested: dict[str, Any] = {}
    node = nested
    *sections, last = old.partition("=")[0].split(".")
    for part in sections:
        node = node.setdefault(part, {})
    node[last] = experiment
    return {
        "now": f"{key}={value}",
        "then": old,
        "lines": lines,
        "config": then,
        "experiment": nested,
    }


def problems(number: int, folder: Path) -> Iterator[str]:
    """What does not work after the rename of this number."""
    chance = random.Random(number)
    root = folder / f"project{number}"
    shutil.copytree(PROJECT.conf, root / "conf")
    project = dataclasses.replace(PROJECT, root=root)
    rename = draw(number, chance, PLAIN)
    lines = {f"0.{version}.0": line for version, line in enumerate(rename["lines"], start=1)}
    (root / "conf/renamed.yaml").write_text(yaml.safe_dump(lines, sort_keys=False))
    header = "# @package _global_\n"
    (root / "conf/experiment/former.yaml").write_text(header + yaml.safe_dump(rename["experiment"]))
    names = aliases.Aliases(project.conf)
    errors.refuse(names.problems)

    given = [*(o for o in BASE if o.split("=")[0] != rename["now"].split("=")[0]), rename["now"]]
    then = [*given[:-1], rename["then"]]
    if names.expand(then) != given:
        yield f"on the command line it is {names.expand(then)[-1]}"
    cfg = TODAY.check(given)
    if number % 2:  # composing takes most of the time
        found = validate.Checker(project).check([*given[:-1], "experiment=former"])
        if lines := resume.differences(found.model_dump(), cfg.model_dump()):
            yield f"the experiment has {lines}"

    run = folder / f"sweep{number}" / "job"
    shutil.copytree(RUN, run)
    config = rename.get("config") or cfg.model_dump()
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for place in (run, run / ".hydra"):
        (place / "overrides.yaml").write_text(yaml.safe_dump(then))
    (checkpoint,) = files.list_checkpoints(run)[-1:]
    about = files.read_about(checkpoint)
    files.write_about(checkpoint, about | {"config": config, "overrides": then})

    group = rename["now"].split("=")[0].split("/")[0].split(".")[0]
    recorded = resume.recorded_overrides(project, run, [])
    if group in ("model", "data") and rename["now"] not in recorded:
        yield f"evaluation takes {recorded}"
    if lines := resume.unlike_the_run(project, cfg, run):
        yield f"evaluation finds {lines}"
    resume.check_resume(project, cfg, run)
    if not resume.is_finished(project, cfg, run):
        yield "the sweep would run it again"
    (job,) = grid.assign_directories(project, [given], run.parent, set())
    if job.directory != run:
        yield f"the sweep's job is {job.directory}"
    known = read.read_run(project, run, folder)
    if wrong := [*resume.differences(known.values, cfg.model_dump()), *known.remarks]:
        yield f"the report has {wrong}"
    if rename["now"].split("=")[0] not in known.overrides:
        yield f"the report has the overrides {known.overrides}"


def main() -> None:
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(COUNT):
            try:
                wrong += [f"{number}: {it}" for it in problems(number, Path(folder))]
            except errors.UserError as error:
                wrong.append(f"{number}: {error}")
    print(json.dumps(wrong))


main()
