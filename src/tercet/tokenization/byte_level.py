"""Byte-level BPE as a tokenizer.json says it: what GGUF's gpt2 vocabularies and tiktoken's ranks share.

Every byte is one character of an alphabet that GPT-2 chose: printable bytes are themselves, the others follow
from U+0100 on. Tokens and merges are written in it, so that they are text whatever bytes they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers.pre_tokenizers

__all__ = ["BYTE_LEVEL_DECODER", "byte_alphabet", "byte_level_model"]

BYTE_LEVEL_DECODER: Mapping[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": True,
    "trim_offsets": True,
    "use_regex": True,
}


def byte_alphabet() -> dict[int, str]:
    """Return byte -> character."""
    characters = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    others = iter(sorted(character for character in characters if ord(character) > 0xFF))
    return {byte: chr(byte) if chr(byte) in characters else next(others) for byte in range(256)}


def byte_level_model(
    vocab: Mapping[str, int], merges: Sequence[Sequence[str]], whole_words: bool
) -> Mapping[str, Any]:
    """Return the `model` object of a tokenizer.json.

    Args:
        vocab: token, in the alphabet -> id.
        merges: pairs of tokens, the first to be joined first.
        whole_words: whether a word that is a token is that token, even if merges would not make it.
    """
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": whole_words,
        "vocab": vocab,
        "merges": merges,
    }
