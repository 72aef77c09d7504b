"""A `tokenizer.json` at work, on the `tokenizers` library.

Some tokens are not text but control: they begin a conversation, switch the speaker, end an answer. They look
like text (`<|end_of_text|>`), and if a user's text could produce them, users could speak as the system. So
`encode` never makes a control token out of text unless it is told to, and what it does make decodes to the
very text.

Control tokens are those that the file marks as special, and those that the caller names: some files leave
tokens unmarked that their chat template uses (`ChatTemplate` names these).
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import tokenizers

from tercet.errors import ParameterError
from tercet.tokenization.frame import read_frame
from tercet.tokenization.incremental_decoder import IncrementalDecoder
from tercet.tokenization.token_bytes import byte_rule
from tercet.tokenization.tokenizer_library import as_json, library_errors, open_tokenizer

__all__ = ["Tokenizer", "check_text"]


class Tokenizer:
    """Encodes text and decodes ids. Safe to use from several threads.

    Args:
        tokenizer_json: the bytes of a tokenizer.json.
        control_tokens: texts of added tokens that are control tokens although the file does not mark them.

    Raises:
        FormatError: the bytes are not a tokenizer.
        UnsupportedFormatError: its decoder is of a kind that this release does not know, or it rewrites text
            without bound.
    """

    def __init__(self, tokenizer_json: bytes, control_tokens: Collection[str] = ()) -> None:
        self._json = tokenizer_json
        self._tokenizer = open_tokenizer(tokenizer_json)
        self._tokenizer.encode_special_tokens = True
        self._byte_rule = byte_rule(as_json(self._tokenizer.decoder))
        self._added = {
            token_id: tokenizers.AddedToken(
                token.content,
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
                special=token.special or token.content in control_tokens,
            )
            for token_id, token in self._tokenizer.get_added_tokens_decoder().items()
        }
        self._control = {token.content: token_id for token_id, token in self._added.items() if token.special}
        self._tokenizer.add_special_tokens([self._added[token_id] for token_id in self._control.values()])
        # Longer ones first: `<|end|>` must not hide `<|end|>2`.
        by_length = sorted(self._control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, by_length)) if by_length else r"(?!)")
        self._bytes: dict[int, bytes] = {}
        self.special_ids: frozenset[int] = frozenset(self._control.values())
        """The ids of the control tokens."""
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        """How many tokens there are, control tokens included."""
        self.drops_leading_space: bool = self._byte_rule.drops_leading_space
        """Whether `decode` drops a space at the very beginning, which encoding had put there."""

    @property
    def control_tokens(self) -> frozenset[str]:
        """The texts of the control tokens."""
        return frozenset(self._control)

    @property
    def added_tokens(self) -> frozenset[str]:
        """The texts of all tokens that were added to the model's own vocabulary, control or not."""
        return frozenset(token.content for token in self._added.values())

    @functools.cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The ids that embedding models read before and behind a text (see `tercet.tokenization.frame`).

        Raises:
            FormatError, UnsupportedFormatError: the file says it in no way that we know.
        """
        return read_frame(self._json)

    def with_control_tokens(self, control_tokens: Collection[str]) -> Tokenizer:
        """Return a tokenizer that takes these added tokens as control tokens, too."""
        extra = set(control_tokens) & self.added_tokens
        return self if extra <= self.control_tokens else Tokenizer(self._json, extra | self.control_tokens)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Return the ids of a text; nothing is added in front or behind.

        Args:
            text: any text without lone surrogates.
            allow_special: whether the texts of control tokens in it become control tokens. Not for text of
                users.

        Raises:
            ParameterError: `text` is not a string, or has no UTF-8 form.
            FormatError: the tokenizer has neither tokens for this text nor one for the unknown.
        """
        check_text(text, "the text")
        return self.encode_parts(self.split(text)) if allow_special else self._encode_plain(text)

    def split(self, text: str) -> Iterator[str | int]:
        """Cut a text at its control tokens: pieces of text, and ids of control tokens between them."""
        start = 0
        strip_next = False
        for match in self._control_pattern.finditer(text):
            token_id = self._control[match[0]]
            token = self._added[token_id]
            if token.single_word and _touches_a_word(text, match):
                continue
            piece = text[start : match.start()]
            piece = piece.lstrip() if strip_next else piece
            yield piece.rstrip() if token.lstrip else piece
            yield token_id
            start, strip_next = match.end(), token.rstrip
        yield text[start:].lstrip() if strip_next else text[start:]

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Return the ids of pieces of text and of control tokens, in order. Text stays text."""
        ids: list[int] = []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            elif part:
                ids.extend(self._encode_plain(part))
        return ids

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Return the text of ids. Bytes that are no characters become U+FFFD.

        Args:
            token_ids: the ids.
            skip_special: whether control tokens are left out, as they are no text.

        Raises:
            ParameterError: an id is not a whole number from 0 on.
        """
        decoder = IncrementalDecoder(self, skip_special)
        pieces = [decoder.push(token_id) for token_id in token_ids]
        return "".join([*pieces, decoder.finish()])

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; for a control token, those of its text.

        Models round their vocabulary up, and may pick an id that no token has: it stands for no bytes.

        Raises:
            ParameterError: `token_id` is not a whole number from 0 on.
        """
        if type(token_id) is not int:
            if not isinstance(token_id, np.integer):
                raise ParameterError(f"a token id is a whole number, not {token_id!r}")
            token_id = int(token_id)
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._look_up(token_id)
        return known

    def _look_up(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].content.encode("utf-8")
        if not 0 <= token_id < 2**31:
            raise ParameterError(f"a token id is a whole number from 0 on, not {token_id}")
        text = self._tokenizer.id_to_token(token_id)
        return b"" if text is None else self._byte_rule.to_bytes(text)

    def _encode_plain(self, text: str) -> list[int]:
        with library_errors("the tokenizer cannot encode this text"):  # some faults of a file show only here
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self.special_ids.isdisjoint(ids):
            return ids
        # The library leaves control tokens alone, but some vocabularies also have them as words of their own:
        # cut such a word in two. A single character that becomes a control token is one that the vocabulary
        # lacks (<unk>): no text can say more.
        spans = zip(ids, encoding.offsets, strict=True)
        cuts = [
            start + 1 for token_id, (start, end) in spans if token_id in self.special_ids and end - start > 1
        ]
        if not cuts:
            return ids
        pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
        return [token_id for piece in pieces for token_id in self._encode_plain(piece)]


def check_text(text: object, what: str) -> None:
    """Raise ParameterError unless `text` is a string that has a UTF-8 form."""
    if not isinstance(text, str):
        raise ParameterError(f"{what} must be a string, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"{what} holds half a surrogate pair (U+{ord(text[error.start]):04X} at {error.start}), "
            "which is no character. It comes from text that was decoded or cut wrongly."
        ) from error


def _touches_a_word(text: str, match: re.Match[str]) -> bool:
    neighbours = text[max(match.start() - 1, 0) : match.start()] + text[match.end() : match.end() + 1]
    return any(character == "_" or character.isalnum() for character in neighbours)
