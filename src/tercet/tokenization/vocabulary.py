"""What a file of tokens says, whichever format it is in: the three readers beside this module return it.

    gguf_vocab            the arrays inside a GGUF file
    sentencepiece_model   `tokenizer.model` as sentencepiece writes it
    tiktoken_model        `tokenizer.model` as Llama 3 has it: base64 and ranks

Each of them ends in the bytes of a `tokenizer.json`, because that is what everything else here works with:
the native file stores it, `Tokenizer` runs it, `transformers` opens it. Where no such file would give the
very ids of the original, the readers refuse rather than come close.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tercet.errors import FormatError
from tercet.tokenization.tokenizer import Tokenizer

__all__ = ["AddedToken", "Vocabulary", "check_size", "make_tokenizer_json", "with_added_tokens"]

MAX_TOKENS = 1 << 20
"""Four times the largest vocabulary there is; a hostile file must not be able to ask for more."""
MAX_PIECE_CHARACTERS = 1024
"""The longest known tokens are runs of 256 blanks."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and what its file says about the ids that frame a text."""

    tokenizer_json: bytes
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    """Every id that ends an answer: end of text first, then ends of turn."""
    pad_token_id: int | None = None
    add_bos: bool = False
    """Whether a text that is no conversation begins with `bos_token_id`."""
    add_eos: bool = False
    chat_template: str | None = None
    remarks: tuple[str, ...] = ()
    """What a person should know: where the file does not say what is needed, and what was assumed."""

    def tokenizer(self) -> Tokenizer:
        """Make the tokenizer."""
        return Tokenizer(self.tokenizer_json)


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text before the model looks at it: a control token, or one users defined."""

    id: int
    content: str
    special: bool
    normalized: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as the `tokenizers` library writes it."""
        stripping = {"single_word": False, "lstrip": False, "rstrip": False}
        return {**dataclasses.asdict(self), **stripping}


def make_tokenizer_json(
    model: Mapping[str, Any],
    added_tokens: Iterable[AddedToken],
    normalizers: Sequence[Mapping[str, Any]],
    pre_tokenizers: Sequence[Mapping[str, Any]],
    decoder: Mapping[str, Any],
    source: str,
) -> bytes:
    """Return the bytes of a tokenizer.json, after checking that no text can spell a control token by itself.

    Args:
        model: the `model` object of the file.
        added_tokens: control tokens and user-defined ones, already members of the model's vocabulary.
        normalizers: what is done to a text, in order.
        pre_tokenizers: how it is then cut, in order.
        decoder: how tokens become text.
        source: what was read, for messages.

    Raises:
        FormatError: a control token is a single character, so that it cannot be told from text.
    """
    added = sorted(added_tokens, key=lambda token: token.id)
    for token in added:
        if token.special and len(token.content) == 1:
            raise FormatError(
                f"{source}: the control token {token.id} is the single character {token.content!r}, "
                "so any text that holds it would be control. Mark it as a normal token."
            )
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [token.to_json() for token in added],
            "normalizer": _sequence("normalizers", normalizers),
            "pre_tokenizer": _sequence("pretokenizers", pre_tokenizers),
            "post_processor": None,
            "decoder": decoder,
            "model": model,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode("utf-8")


def with_added_tokens(vocabulary: Vocabulary, tokens: Mapping[int, str], source: str) -> Vocabulary:
    """Return the vocabulary with control tokens that stand beside its file, as in `added_tokens_decoder`.

    Args:
        vocabulary: what the file itself says.
        tokens: id -> text. Those that the vocabulary has under this id become control tokens, the others
            follow it without a gap.
        source: where the tokens stand, for messages.

    Raises:
        FormatError: a token has another id in the vocabulary, or leaves a gap behind it.
    """
    parsed = json.loads(vocabulary.tokenizer_json)
    vocab = parsed["model"]["vocab"]
    ids = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    known = {entry["content"]: entry["id"] for entry in parsed["added_tokens"]}
    next_id = max([*ids.values(), *known.values()], default=-1) + 1
    added = {entry["id"]: entry for entry in parsed["added_tokens"]}
    for token_id, content in sorted(tokens.items()):
        found = known.get(content, ids.get(content))
        if found is None and token_id == next_id:
            next_id += 1
        elif found != token_id:
            where = f"it is {found} in the vocabulary" if found is not None else f"the next id is {next_id}"
            raise FormatError(f"{source}: the added token {content!r} has the id {token_id}, but {where}")
        if not content or len(content) == 1:
            raise FormatError(f"{source}: the added token {token_id} is {content!r}, expected longer text")
        added[token_id] = AddedToken(token_id, content, special=True).to_json()
    parsed["added_tokens"] = [added[token_id] for token_id in sorted(added)]
    data = json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return dataclasses.replace(vocabulary, tokenizer_json=data)


def check_size(count: int, source: str) -> None:
    """Raise FormatError unless a vocabulary may have so many tokens."""
    if not 1 <= count <= MAX_TOKENS:
        raise FormatError(f"{source} has {count:,} tokens, expected 1 to {MAX_TOKENS:,}")


def _sequence(name: str, steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", name: list(steps)}
