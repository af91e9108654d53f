"""A split as one sequence of tokens: tokenized once, kept in data.cache, memory-mapped."""

import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .config.data import Bytes, Data, Hub, Tokenizer
from .engine.config import Split
from .engine.errors import UserError
from .engine.parallel import for_each
from .hub import open_rows
from .texts import PIECE, find_held_out, list_files, read_documents
from .tokenizer import Encoder, Ids, document_token, open_encoder

SHARD = 2**26  # bytes of text in a shard: what a kill loses at most
BATCH = 2**20  # bytes tokenized at once, in threads: a tokenizer takes 200 times the memory
log = logging.getLogger(__name__)


class Tokens:
    """A sequence of tokens in shards: each document after its document token, and one more."""

    def __init__(self, shards: list[Ids], documents: int, text_bytes: int) -> None:
        self.shards, self.ends = shards, np.cumsum([0, *map(len, shards)])[1:]
        self.text_bytes = text_bytes
        # those of documents alone; over a whole split this is exact for any tokenizer
        self.bytes_per_token = text_bytes / max(1, len(self) - documents - 1)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, start: int, stop: int) -> Ids:
        """The tokens of this range, 64 bits each; fewer at the end."""
        parts = []
        for number in range(int(np.searchsorted(self.ends, start, "right")), len(self.shards)):
            shard = self.shards[number]
            first = int(self.ends[number]) - len(shard)
            if first >= stop:
                break
            parts.append(shard[max(0, start - first) : stop - first])
        return np.concatenate(parts).astype(np.int64)


@dataclass
class Count:
    """What a split has."""

    documents: int = 0
    text_bytes: int = 0
    empty: int = 0


@dataclass(frozen=True)
class Piece:
    """A part of a document."""

    document: str
    is_first: bool
    text: bytes
    end: int
    """Bytes of the split up to its end."""


def tokenizer_files(tokenizer: Tokenizer) -> list[str]:
    """The file of the tokenizer, if it has one."""
    return [] if isinstance(tokenizer, Bytes) else [tokenizer.path]


def open_tokens(data: Data, split: Split) -> Tokens:
    """The tokens of a split, tokenized if data.cache has none of these files. Raises UserError."""
    files, rows = tokenizer_files(data.tokenizer), ""
    if isinstance(data, Hub):
        rows = open_rows(data, split)._fingerprint  # its files may be downloaded again
    else:
        files = [*list_files(data, split), *files]
    stats = for_each(os.stat, files)
    identity = [
        *(split, data.seed, find_held_out(data, split), data.tokenizer.model_dump()),
        *((data.folds, data.fold) if split != "test" else ()),
        *(rows, getattr(data, "field", None)),
        *(files, [(it.st_size, it.st_mtime_ns) for it in stats]),
    ]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = Path(data.cache, f"{data.kind}-{split}-{name}")
    try:
        if not (folder / "index.json").is_file():
            tokenize(data, split, folder)
        index = json.loads((folder / "index.json").read_text())
        kind = token_type(data.tokenizer)
        shards: list[Ids] = [np.memmap(it, kind, "r") for it in sorted(folder.glob("*.bin"))]
    except OSError as error:
        raise UserError(f"data.cache = {data.cache}: {error}") from None
    return Tokens(shards, index["documents"], index["text_bytes"])


def token_type(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    """The smallest type that holds every token."""
    return np.uint16 if document_token(tokenizer) < 2**16 else np.uint32


def tokenize(data: Data, split: Split, folder: Path) -> None:
    """Write the shards of a split that are not there yet, each renamed into place, and the index.

    A command that was killed continues after the last whole shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began, count, encoder = time.perf_counter(), Count(), open_encoder(data.tokenizer)
    groups = itertools.groupby(read_pieces(data, split, count), lambda it: it.end // SHARD)
    for number, (_, pieces) in enumerate(groups):
        file = folder / f"{number:06}.bin"
        if file.exists():
            continue  # groupby reads on, which counts its documents
        beside = file.with_suffix(f".{os.getpid()}")
        with beside.open("wb") as opened:
            for ids in encode(pieces, encoder, data.tokenizer):
                ids.tofile(opened)
        beside.replace(file)
        log.info("tokenized %.1f MB of the %s split", count.text_bytes / 1e6, split)
    (folder / f"index.{os.getpid()}").write_text(json.dumps(asdict(count)))
    (folder / f"index.{os.getpid()}").replace(folder / "index.json")
    for left in folder.glob("*.[0-9]*"):  # of commands that were killed
        with suppress(FileNotFoundError):
            left.unlink()
    seconds = time.perf_counter() - began
    empty = f"; {count.empty} without text are left out" * bool(count.empty)
    log.info("%s: %d documents in %.1f s%s", folder, count.documents, seconds, empty)


def read_pieces(data: Data, split: Split, count: Count) -> Iterator[Piece]:
    """The pieces of all documents that have text, and at the end one without; it counts them."""
    for name, pieces in read_documents(data, split):
        for number, text in enumerate(pieces):
            if number == 0 and len(text) < PIECE and not text.strip():
                count.empty += 1
                break
            count.documents += number == 0
            count.text_bytes += len(text)
            yield Piece(name, number == 0, text, count.text_bytes)
    if count.documents:
        yield Piece("", True, b"", count.text_bytes)


def encode(pieces: Iterator[Piece], encoder: Encoder, tokenizer: Tokenizer) -> Iterator[Ids]:
    """The tokens of the pieces, the document token before each document. Raises UserError."""
    kind = token_type(tokenizer)
    begin = np.array([document_token(tokenizer)], kind)
    size, batch = 0, list[Piece]()
    for piece in itertools.chain(pieces, [None]):
        if piece:
            batch.append(piece)
            size += len(piece.text)
        if batch and (piece is None or size >= BATCH):
            try:
                encoded = encoder.encode([it.text for it in batch])
            except UnicodeDecodeError:
                raise UserError(*map(not_utf8, find_undecodable(batch))) from None
            for it, ids in zip(batch, encoded, strict=True):
                if it.is_first:
                    yield begin
                yield ids.astype(kind)
            size, batch = 0, []


def find_undecodable(pieces: list[Piece]) -> Iterator[str]:
    """The documents of the pieces that are not UTF-8."""
    for piece in pieces:
        try:
            piece.text.decode()
        except UnicodeDecodeError:
            yield piece.document


def not_utf8(document: str) -> str:
    """The message for a document."""
    return f"{document}: not UTF-8, which the tokenizer needs; convert it: iconv -f latin1 -t utf-8"
