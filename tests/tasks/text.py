"""The task text, as the shared tests know it."""

import json
import random
from pathlib import Path

from . import OwnData, Task

WHO = ["The cook", "My sister", "A sailor", "The old king", "Our teacher", "Nobody"]
WHEN = ["in the morning", "every Sunday", "after the storm", "before supper", "at sea"]
WHAT = ["sings a song", "counts the stars", "bakes bread", "looks for the key", "sleeps"]


def tell_stories(folder: Path) -> None:
    """Write stories.jsonl: a few sentences in each of its lines."""
    chance = random.Random(1)
    stories = [
        " ".join(
            f"{chance.choice(WHO)} {chance.choice(WHAT)} {chance.choice(WHEN)}."
            for _ in range(chance.randint(5, 20))
        )
        for _ in range(400)
    ]
    lines = [json.dumps({"text": story}) + "\n" for story in stories]
    (folder / "stories.jsonl").write_text("".join(lines))


TASK = Task(
    name="text",
    words=r"stdlib|\bprompts?\b|\btokenizer|bits_per_byte|\bsampling|decoder|\bgenerat(e|ion)\b",
    metric="bits_per_byte",
    embedded="stdlib",
    tested=2000,
    small={"data.items.train": 96, "data.items.valid": 7, "data.items.test": 20},
    seed="data.seed",
    own="text_files",
    own_data=OwnData(
        name="stories",
        write=tell_stories,
        is_learned=lambda metrics: metrics["bits_per_byte"] <= 1,
        spoil=r"""
        sed '3s/"text"/"txt"/; 7s/{/[/' stories.jsonl > flawed.jsonl
        """,
        spoiled="data=text_files data.train=flawed.jsonl data.valid=unseen.jsonl",
        mended_by={"sed"},
    ),
    mode="generate",
    parameters=r"85,\d{3},\d{3}",
    network="Decoder",
    dropout="model.dropout",
    width="model.dim",
    widths=("16", "128"),
    count="model.layers",
    flawed={
        "a misspelt key of a model": ("model", "dims: 4\n"),
        "another dataset's key": ("data", "kind: stdlib\nfield: text\n"),
        "a tokenizer of few entries": ("data/tokenizer", "kind: trained\nvocabulary: 10\n"),
        "no tokens": ("sampling", "tokens: 0\n"),
    },
)
