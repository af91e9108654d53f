"""Datasets and batches."""

from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from .config import Config
from .engine.config import Split
from .engine.project import Batch, Items
from .texts import list_files
from .tokenizer import Ids, document_token
from .tokens import Tokens, open_tokens, tokenizer_files

Item = tuple[Ids, float]


class Windows:
    """Windows of context + 1 tokens at multiples of the context, with the bytes of a token.

    So each token but the first is predicted once. `most` windows are spread evenly.
    """

    def __init__(
        self, tokens: Tokens, context: int, most: int | None, name: str, files: list[str]
    ) -> None:
        self.tokens, self.context, self.title, self.paths = tokens, context, name, files
        self.total = -(-(len(tokens) - 1) // context) if len(tokens) > 1 else 0
        self.count = min(self.total, most or self.total)

    def __len__(self) -> int:
        return self.count

    def start(self, index: int) -> int:
        """The place of the window's first token."""
        return index * self.total // self.count * self.context

    def __getitem__(self, index: int) -> Item:
        start = self.start(index)
        ids = self.tokens.read(start, start + self.context + 1)
        return ids, self.tokens.bytes_per_token

    def length(self, index: int) -> float:
        """The same for all."""
        return self.context

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return f"{self.title} tokens {self.start(index)} to {self.start(index) + self.context}"

    def files(self) -> list[str | Path]:
        """The files of the documents, and that of the tokenizer."""
        return [*self.paths]


def open_items(cfg: Config, split: Split) -> Items[Item]:
    """A sequence of (tokens, bytes of a token) pairs."""
    data = cfg.data
    files = [*list_files(data, split), *tokenizer_files(data.tokenizer)]
    most = getattr(data.items, split)
    return Windows(open_tokens(data, split), cfg.model.context, most, split, files)


def collate(items: list[Item], cfg: Config) -> Batch:
    """Tokens [items, context + 1], -1 after the end, and how many bytes each window predicts.

    Where a document begins within a window, also the number of each token's document
    [items, context]: attention stays within a document.
    """
    begin = document_token(cfg.data.tokenizer)
    windows = [torch.from_numpy(ids) for ids, _ in items]
    tokens = pad_sequence(windows, batch_first=True, padding_value=-1)
    text = (tokens[:, 1:] >= 0) & (tokens[:, 1:] != begin)
    per_token = torch.tensor([bytes_per_token for _, bytes_per_token in items])
    batch = {"tokens": tokens, "bytes": text.sum(1) * per_token}
    begins = tokens[:, :-1] == begin
    if begins[:, 1:].any():
        batch["documents"] = begins.cumsum(1)
    return batch
