"""The way back: a tokenizer.json -> the vocabulary of a GGUF file, by which other programs make the same ids.

    byte-level BPE          model "gpt2": tokens, merges, and the name of the rule that cuts words
    pieces and bytes        model "llama": tokens, and scores by which joining merges in the same order

What such a file cannot say is refused, with one exception that every converter makes: that Unicode is
composed first (NFC, as Qwen's tokenizer does) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tercet.errors import UnsupportedFormatError
from tercet.formats.gguf.vocabulary import GgufVocabulary, TokenType
from tercet.tokenization.piece_merges import canonical_merges
from tercet.tokenization.pre_tokenizers import name_of_rule
from tercet.tokenization.scored_pieces import BLANK, ESCAPE_BLANKS, PREPEND_BLANK
from tercet.tokenization.tokenizer_library import open_tokenizer

__all__ = ["to_gguf_vocabulary"]

SOURCE = "the tokenizer"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_END_ROLES = ("eos", "eot", "eom")


def to_gguf_vocabulary(
    tokenizer_json: bytes,
    vocab_size: int,
    bos_token_id: int | None = None,
    eos_token_ids: Sequence[int] = (),
    pad_token_id: int | None = None,
    chat_template: str | None = None,
) -> GgufVocabulary:
    """Return a vocabulary for `tercet.formats.gguf` to write.

    Args:
        tokenizer_json: the bytes of the tokenizer.
        vocab_size: how many rows the embedding has; ids that no token has are filled up.
        bos_token_id: what goes before a text; None if nothing does.
        eos_token_ids: what ends an answer, the end of a text first.
        pad_token_id: what fills up.
        chat_template: how a conversation is written.

    Raises:
        FormatError: it is damaged.
        UnsupportedFormatError: a GGUF file cannot say what this tokenizer does.
    """
    tokenizer = open_tokenizer(tokenizer_json)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:  # first of all: the library writes gaps between ids, and takes memory for each
        raise _unsupported(f"it has the id {largest}, but the model has {vocab_size} tokens")
    # What the library writes has every key, also those that the file left out.
    parsed = json.loads(tokenizer.to_str())
    model = parsed["model"]
    if model["type"] != "BPE":
        raise _unsupported(f"it is a {model['type']} model, expected BPE")
    tokens, types = _tokens(parsed, vocab_size)
    ids = {"bos": bos_token_id, "padding": pad_token_id} | dict(zip(_END_ROLES, eos_token_ids, strict=False))
    flags = {"add_bos_token": bos_token_id is not None, "add_eos_token": False}
    kinds = [step["type"] for step in _steps(parsed["pre_tokenizer"], "pretokenizers")]
    scores: np.ndarray[Any, np.dtype[np.float32]] | None = None
    merges: tuple[str, ...] | None = None
    pre: str | None
    if "ByteLevel" in kinds:
        kind, pre, merges = "gpt2", _rule(parsed), tuple(" ".join(pair) for pair in _pairs(model))
    else:
        kind, pre, scores = "llama", "default", _scores(parsed, tokens, types)
        flags["add_space_prefix"] = PREPEND_BLANK in _steps(parsed["normalizer"], "normalizers")
        unknown = model.get("unk_token")
        if unknown is not None:
            if unknown not in model["vocab"]:
                raise _unsupported(f"its unknown token {unknown!r:.60} is not in its vocabulary")
            ids["unknown"] = model["vocab"][unknown]
    return GgufVocabulary(
        model=kind,
        pre=pre,
        tokens=tuple(tokens),
        scores=scores,
        types=np.array(types, np.int64),
        merges=merges,
        special_ids={role: token_id for role, token_id in ids.items() if token_id is not None},
        flags=flags,
        precompiled_charsmap=None,
        chat_templates={} if chat_template is None else {"default": chat_template},
    )


def _tokens(parsed: Mapping[str, Any], vocab_size: int) -> tuple[list[str], list[TokenType]]:
    """Return text and type of every id."""
    texts = {token_id: text for text, token_id in parsed["model"]["vocab"].items()}
    added = {token["id"]: token for token in parsed["added_tokens"]}
    texts |= {token_id: token["content"] for token_id, token in added.items()}
    for token in added.values():
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _unsupported(f"the added token {token['content']!r} takes blanks or words around it")
    unknown, has_bytes = parsed["model"].get("unk_token"), parsed["model"].get("byte_fallback")
    types = []
    for token_id in range(vocab_size):
        text = texts.get(token_id)
        if text is None:
            types.append(TokenType.UNUSED)
        elif text == unknown:
            types.append(TokenType.UNKNOWN)
        elif token_id in added:
            types.append(TokenType.CONTROL if added[token_id]["special"] else TokenType.USER_DEFINED)
        elif has_bytes and _BYTE.fullmatch(text):
            types.append(TokenType.BYTE)
        else:
            types.append(TokenType.NORMAL)
    return [texts.get(token_id, f"[PAD{token_id}]") for token_id in range(vocab_size)], types


def _rule(parsed: Mapping[str, Any]) -> str:
    other = [step["type"] for step in _steps(parsed["normalizer"], "normalizers") if step["type"] != "NFC"]
    if other:
        raise _unsupported(f"it normalizes text by {', '.join(other)}")
    steps = _steps(parsed["pre_tokenizer"], "pretokenizers")
    name = name_of_rule(steps, bool(parsed["model"].get("ignore_merges")))
    if name is None:
        raise _unsupported("it cuts words by a rule that no GGUF file can name")
    return name


def _scores(
    parsed: Mapping[str, Any], tokens: Sequence[str], types: Sequence[TokenType]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return scores by which joining merges in the order of the list; the first merge has the best."""
    normalizers = _steps(parsed["normalizer"], "normalizers")
    if parsed["pre_tokenizer"] or normalizers not in ([PREPEND_BLANK, ESCAPE_BLANKS], [ESCAPE_BLANKS]):
        raise _unsupported(f"it prepares text otherwise than by {BLANK} for blanks, and one in front")
    pairs = _pairs(parsed["model"])
    order: dict[str, int] = {}
    for left, right in pairs:
        order.setdefault(left + right, len(order))
    scores = {
        text: -float(order.get(text, len(order)))
        for text, kind in zip(tokens, types, strict=True)
        if kind == TokenType.NORMAL
    }
    # Joining by score tries every piece, also those that no merge of the list makes.
    if {tuple(merge) for merge in canonical_merges(scores, SOURCE)} - {tuple(pair) for pair in pairs}:
        raise _unsupported("its merges have an order that no scores have")
    return np.array([scores.get(text, 0.0) for text in tokens], np.float32)


def _pairs(model: Mapping[str, Any]) -> list[list[str]]:
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]


def _steps(value: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """Return a `normalizer` or `pre_tokenizer` as the list of its steps."""
    if value is None:
        return []
    return list(value[name]) if value["type"] == "Sequence" else [value]


def _unsupported(what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(f"{SOURCE} cannot be written into a GGUF file: {what}")
