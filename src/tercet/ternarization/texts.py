"""The texts that calibration and measurement read: a person's own, or small ones that come with the package.

The built-in texts are prose that we wrote about ternary models and this program: English, a few thousand
tokens, in two parts that share no sentence. They make the command work by itself. A text like what the model
will be used for makes a better result, and one from elsewhere a fairer measurement.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.evaluation.documents import read_documents
from tercet.tokenization import Tokenizer

__all__ = ["Text", "built_in_text", "read_text"]

DATA = Path(__file__).parent / "data"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text and what to call it."""

    name: str
    content: str

    @property
    def sha256(self) -> str:
        """The digest of its UTF-8 bytes."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    def sequences(self, tokenizer: Tokenizer, first_id: int | None, num_tokens: int, window: int) -> Windows:
        """Cut its beginning into windows of token ids.

        Args:
            tokenizer: the model's.
            first_id: what every window begins with, if anything.
            num_tokens: at most so many, `first_id` counted.
            window: tokens in each; a text that is shorter makes one shorter window.

        Raises:
            ParameterError: the text has fewer than two tokens.
        """
        begin = [] if first_id is None else [first_id]
        # No tokenizer makes a token of more than 64 characters of prose: the rest need not be read.
        ids = tokenizer.encode(self.content[: 64 * num_tokens])
        new = min(window, num_tokens) - len(begin)
        length = min(len(ids), new)
        if length < 2:
            raise ParameterError(f"{self.name} has {len(ids)} tokens for this model; give it a longer text")
        count = max(1, min(len(ids), num_tokens) // (length + len(begin)))
        count = min(count, len(ids) // length)
        return np.array([begin + ids[i * length : (i + 1) * length] for i in range(count)], np.int64)


Windows = NDArray[np.int64]


def built_in_text(part: str) -> Text:
    """Return the text for `calibration`, or the one that is `held_out` from it."""
    return Text(f"built-in text ({part})", (DATA / f"{part}.txt").read_text(encoding="utf-8"))


def read_text(path: Path) -> Text:
    """Read a text file, or the `text` of JSON lines; .xz and .gz are unpacked.

    Raises:
        ModelNotFoundError, StorageError, FormatError: it is not there, or cannot be read.
    """
    return Text(path.name, "\n\n".join(read_documents(path)))
