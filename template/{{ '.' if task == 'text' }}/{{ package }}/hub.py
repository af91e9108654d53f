"""Texts of Hugging Face datasets, from the hub or a folder. `datasets` only where it is used."""

import functools
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .config.data import Hub
from .engine.config import Split
from .engine.errors import UserError
from .own_files import command, fold_problems

AT_ONCE = 1000  # rows that are read together


def find_problems(data: Hub, splits: list[Split]) -> list[str]:
    """Problems of the rows that these splits are read from."""
    try:
        counts = {data.key(split): len(open_rows(data, split)) for split in splits}
    except UserError as error:
        return [*error.problems]
    if "train" not in counts:
        return []
    return fold_problems(data, data.test, {f"{data.dataset}, {data.train}": counts["train"]})


def open_rows(data: Hub, split: Split) -> Any:
    """The rows that a split is read from, with their texts alone. Raises UserError."""
    splits, key = load(data.dataset, data.subset, data.revision), data.key(split)
    name = getattr(data, key)
    if name not in splits:
        there = ", ".join(splits)
        way_out = command(f"data.{key}={next(iter(splits)) if key == 'train' else 0.1}")
        expected = f"expected a split of {data.dataset}, which has {there}"
        raise UserError(f"data.{key} = {name}: {expected}\n{way_out}")
    rows = splits[name]
    texts = [it for it, type_ in rows.features.items() if is_text(type_)]
    if data.field not in texts:
        there = f"its text columns: {', '.join(texts)}" if texts else "it has none"
        way_out = f"\n{command(f'data.field={texts[0]}')}" if texts else ""
        expected = f"expected a text column of {data.dataset}; {there}"
        raise UserError(f"data.field = {data.field}: {expected}{way_out}")
    if len(rows) < (fewest := data.count_splits(key)):
        few = f"{len(rows)} rows in {data.dataset}; expected at least {fewest}"
        raise UserError(f"data.{key} = {name}: {few}, one for each split that reads them")
    return rows.select_columns([data.field])


def is_text(type_: Any) -> bool:
    """Whether a column's type is that of texts."""
    return getattr(type_, "dtype", None) in ("string", "large_string")


@functools.cache
def load(dataset: str, subset: str | None, revision: str | None) -> dict[str, Any]:
    """The splits of a dataset by name, downloaded once. Raises UserError."""
    if not find_spec("datasets"):
        raise UserError("data = hub: the package datasets is missing\npip install -e '.[hub]'")
    from datasets import Dataset, get_dataset_config_names, load_dataset, load_from_disk

    if dataset.startswith((".", "/", "~")) and not Path(dataset).exists():
        way_out = command("data.dataset=NAME_OR_FOLDER")
        raise UserError(f"data.dataset = {dataset}: no such folder\n{way_out}")
    saved = any(Path(dataset, it).exists() for it in ("state.json", "dataset_dict.json"))
    try:
        if not saved:
            return dict(load_dataset(dataset, subset, revision=revision))
        found = load_from_disk(dataset)
        return {"train": found} if isinstance(found, Dataset) else dict(found)
    except ConnectionError:
        what = "no such folder, and the hub cannot be reached"
    except LookupError:
        what = "damaged, or without rows"
    except (OSError, ValueError, RuntimeError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        if "config" in what.lower():
            there = ", ".join(get_dataset_config_names(dataset, revision=revision))
            given = f"data.subset = {subset or 'null'}: expected a subset of {dataset}: {there}"
            raise UserError(f"{given}\n{command('data.subset=NAME')}") from None
    raise UserError(f"data.dataset = {dataset}: {what}\n{command('data.dataset=NAME_OR_FOLDER')}")


def read_texts(data: Hub, split: Split) -> Iterator[bytes]:
    """The texts of the rows that a split is read from; a missing one is empty."""
    for rows in open_rows(data, split).iter(AT_ONCE):
        yield from ((text or "").encode("utf-8", "replace") for text in rows[data.field])
