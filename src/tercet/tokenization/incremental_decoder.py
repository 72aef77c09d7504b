"""Token ids, one at a time, into text that can be shown at once.

A character may be spread over several tokens. Its bytes wait until it is complete; bytes that can never
become a character are shown as U+FFFD, one for each maximal invalid run, as `bytes.decode("utf-8",
"replace")` does. So the pieces joined are exactly what `Tokenizer.decode` gives for all ids together.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.tokenization.tokenizer import Tokenizer

__all__ = ["IncrementalDecoder"]


class IncrementalDecoder:
    """Decodes one sequence. Control tokens are no text and are left out, unless `skip_special` is false.

    Args:
        tokenizer: knows the bytes of tokens.
        skip_special: whether control tokens are left out.
        shown: texts of control tokens that are not.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True, shown: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special else frozenset()
        if shown and self._skipped:
            texts = {text.encode() for text in shown}
            self._skipped = frozenset(one for one in self._skipped if tokenizer.token_bytes(one) not in texts)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = tokenizer.drops_leading_space

    def push(self, token_id: int) -> str:
        """Take the next token; return the text that is certain now, possibly empty.

        Raises:
            ParameterError: it is not a whole number from 0 on.
        """
        data = self._tokenizer.token_bytes(token_id)
        return "" if token_id in self._skipped else self._text(self._utf8.decode(data))

    def finish(self) -> str:
        """Return what is left when no more tokens come: U+FFFD if a character is incomplete, else nothing."""
        return self._text(self._utf8.decode(b"", final=True))

    def _text(self, text: str) -> str:
        if self._at_start and text:
            self._at_start = False
            return text.removeprefix(" ")
        return text
