"""A `tokenizer.model` of tiktoken, as Llama 3 comes with it -> the Tokenizer that gives the same ids.

Each line is a token and its rank: `IQ== 0`, the bytes in base64. A word of a text that is a token becomes
that token; otherwise its bytes are joined, the two neighbours that make the token of the lowest rank first.
What cuts a text into words, and which control tokens follow the ranks, stands in no file but in Meta's code;
so it does here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.byte_level import BYTE_LEVEL_DECODER, byte_alphabet, byte_level_model
from tercet.tokenization.piece_merges import canonical_merges
from tercet.tokenization.pre_tokenizers import pre_tokenizer
from tercet.tokenization.vocabulary import (
    MAX_PIECE_CHARACTERS,
    AddedToken,
    Vocabulary,
    check_size,
    make_tokenizer_json,
)

__all__ = ["LLAMA3_CONTROL_TOKENS", "count_ranks", "is_tiktoken_model", "read_tiktoken_model"]

LLAMA3_RANKS = 128_000
_LLAMA3_NAMED = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
    "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip
LLAMA3_CONTROL_TOKENS = (
    *_LLAMA3_NAMED,
    *(f"<|reserved_special_token_{number}|>" for number in range(2, 258 - len(_LLAMA3_NAMED))),
)
"""The 256 control tokens of Llama 3.1, in the order of their ids from 128,000 on."""
_ENDS = ("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>")


def is_tiktoken_model(data: bytes) -> bool:
    """Whether a file begins as one of tiktoken's does: base64, a blank, a rank."""
    first = data[: 4 * MAX_PIECE_CHARACTERS].partition(b"\n")[0].split()
    return len(first) == 2 and first[1].isdigit() and _decoded(first[0]) is not None


def count_ranks(data: bytes, source: str = "tokenizer.model") -> int:
    """Return how many tokens a file ranks; the ids of control tokens begin there.

    Raises:
        FormatError: it is damaged, or of another kind.
    """
    return len(_ranks(data, source))


def read_tiktoken_model(
    data: bytes,
    source: str = "tokenizer.model",
    control_tokens: Sequence[str] | None = None,
    pre: str = "llama-bpe",
) -> Vocabulary:
    """Read a file of ranks.

    Args:
        data: the bytes of the file.
        source: its name, for messages.
        control_tokens: the control tokens, whose ids follow the last rank; None takes those of Llama 3, if
            the file has its 128,000 ranks.
        pre: the name of the rule that cuts a text into words (see `pre_tokenizers`).

    Raises:
        FormatError: it is damaged, or of another kind.
        UnsupportedFormatError: it is not that of Llama 3 and `control_tokens` are not given, or the name of
            the rule is not known.
    """
    ranks = _ranks(data, source)
    if control_tokens is None:
        if len(ranks) != LLAMA3_RANKS:
            raise UnsupportedFormatError(
                f"{source} has {len(ranks):,} ranks, expected the {LLAMA3_RANKS:,} of Llama 3. The control "
                "tokens of other models stand in no such file; use the tokenizer.json of the model."
            )
        control_tokens = LLAMA3_CONTROL_TOKENS
    rule = pre_tokenizer(pre, source)
    # Every byte is a character of GPT-2's alphabet, in which the library's merges are written.
    alphabet = byte_alphabet()
    text = {token: token.decode("latin-1").translate(alphabet) for token in ranks}
    vocab: dict[str, int] = {text[token]: rank for token, rank in ranks.items()}
    merges = canonical_merges({token: -rank for token, rank in ranks.items()}, source)
    added = []
    for token_id, content in enumerate(control_tokens, start=len(ranks)):
        if not content or vocab.setdefault(content, token_id) != token_id:
            raise FormatError(f"{source}: the control token {token_id} is {content!r}, which is taken")
        added.append(AddedToken(token_id, content, special=True))
    model = byte_level_model(vocab, [[text[left], text[right]] for left, right in merges], whole_words=True)
    tokenizer_json = make_tokenizer_json(model, added, [], rule.steps, BYTE_LEVEL_DECODER, source)
    bos = vocab.get("<|begin_of_text|>")
    ends = tuple(vocab[end] for end in _ENDS if end in vocab)
    pad = vocab.get("<|finetune_right_pad_id|>")
    return Vocabulary(tokenizer_json, bos, ends, pad, add_bos=bos is not None)


def _ranks(data: bytes, source: str) -> dict[bytes, int]:
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    check_size(len(lines), source)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines):
        encoded, blank, rank = line.rstrip(b"\r").partition(b" ")
        token = _decoded(encoded)
        if token is None or not blank or not rank.isdigit() or len(rank) > 10:
            shown = ascii(line[:40].decode("latin-1"))
            raise FormatError(
                f"{source}: line {number + 1} is {shown}, expected a token in base64 and its rank"
            )
        if int(rank) != number:
            raise FormatError(f"{source}: line {number + 1} has the rank {int(rank)}, expected {number}")
        if ranks.setdefault(token, number) != number:
            raise FormatError(f"{source}: the tokens {ranks[token]} and {number} are the same")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise FormatError(f"{source}: {len(missing)} bytes have no token, the first is 0x{missing[0]:02X}")
    return ranks


def _decoded(encoded: bytes) -> bytes | None:
    try:
        token = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return token or None
