"""Text to tokens and back. No torch here, and `tokenizers` only where it is used."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .config.data import Bytes, Tokenizer, Trained
from .engine.errors import UserError

Ids = NDArray[Any]
EXPECTED = "expected a tokenizer.json of the library tokenizers"


class Encoder(Protocol):
    """Between text and tokens."""

    def encode(self, texts: list[bytes]) -> list[Ids]:
        """The tokens of each text. Raises UnicodeDecodeError if they must be UTF-8 and are not."""

    def decode(self, ids: list[int]) -> str:
        """The text of these tokens."""


class ByteEncoder:
    """Each byte is a token."""

    def encode(self, texts: list[bytes]) -> list[Ids]:
        """The bytes."""
        return [np.frombuffer(text, np.uint8) for text in texts]

    def decode(self, ids: list[int]) -> str:
        """The text; bytes that are not UTF-8 become �."""
        return bytes(ids).decode("utf-8", "replace")


class FileEncoder:
    """A tokenizer.json, by the library `tokenizers`."""

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(path)
        except Exception:  # the library raises no other type
            raise UserError(f"data.tokenizer.path = {path}: {EXPECTED}") from None
        self.path = path
        # a file may ask for them, for models that read one text at a time
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def encode(self, texts: list[bytes]) -> list[Ids]:
        """The tokens, without those that mark the ends of a text; in threads."""
        decoded = [text.decode() for text in texts]
        try:
            found = self.tokenizer.encode_batch_fast(decoded, add_special_tokens=False)
        except Exception as error:  # of a vocabulary without a token for unknown text
            raise UserError(f"data.tokenizer.path = {self.path}: {error}") from None
        return [np.array(it.ids, np.uint32) for it in found]

    def decode(self, ids: list[int]) -> str:
        """The text."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def open_encoder(tokenizer: Tokenizer) -> Encoder:
    """The encoder of this kind."""
    return ByteEncoder() if isinstance(tokenizer, Bytes) else FileEncoder(tokenizer.path)


def document_token(tokenizer: Tokenizer) -> int:
    """The token that begins each document and ends the one before: it follows the others."""
    if isinstance(tokenizer, Bytes):
        return 256
    return tokenizer.vocabulary if isinstance(tokenizer, Trained) else count_tokens(tokenizer.path)


@functools.cache
def count_tokens(path: str) -> int:
    """The tokens of a tokenizer.json, read without the library. Raises UserError."""
    try:
        read = json.loads(Path(path).read_text("utf-8"))
        vocabulary = read["model"]["vocab"]
        ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
        return max(int(it) for it in [*ids, *(added["id"] for added in read["added_tokens"])]) + 1
    except FileNotFoundError:
        raise UserError(f"data.tokenizer.path = {path}: no such file") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"data.tokenizer.path = {path}: {EXPECTED}") from None


def train_tokenizer(texts: Iterable[str], tokenizer: Trained) -> int:
    """Train byte-level BPE, write it to its path, and return its tokens: few texts give fewer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    trained: Any = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokenizer.vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    Path(tokenizer.path).parent.mkdir(parents=True, exist_ok=True)
    trained.save(tokenizer.path)
    return int(trained.get_vocab_size())
