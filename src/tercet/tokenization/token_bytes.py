"""The bytes that a token stands for.

A tokenizer's own `decode` works on whole sequences of ids and strings. Streaming, stop strings and grammars
need to know what one token contributes, and with byte-level vocabularies that may be half a character. Two
families of decoders cover the models we run:

    ByteLevel                        every character of the token stands for one byte (the alphabet of GPT-2)
    Replace, ByteFallback, Fuse,     SentencePiece: "▁" is a space, "<0x0A>" a byte, and the space that
    Strip; or Metaspace              encoding put in front of the text is taken away again
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tercet.errors import UnsupportedFormatError

__all__ = ["ByteRule", "byte_rule"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's alphabet: printable bytes are themselves, the others characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _byte_alphabet()


class ByteRule:
    """How the text of a vocabulary entry becomes bytes."""

    def __init__(self, to_bytes: Callable[[str], bytes], drops_leading_space: bool = False) -> None:
        self.to_bytes = to_bytes
        self.drops_leading_space = drops_leading_space
        """Whether one space at the very beginning of a decoded text is no part of it."""


def byte_rule(decoder: Mapping[str, Any] | None) -> ByteRule:
    """Choose the rule for the `decoder` of a tokenizer.json.

    Raises:
        UnsupportedFormatError: it is of neither family.
    """
    if decoder is None:
        raise UnsupportedFormatError("the tokenizer has no decoder, so its tokens cannot be joined to a text")
    steps: Sequence[Mapping[str, Any]] = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteRule(_byte_level)
    if kinds == ["Metaspace"]:
        return ByteRule(
            _replaced([(steps[0]["replacement"], " ")], False), steps[0]["prepend_scheme"] != "never"
        )
    if set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"} and kinds:
        return _sentencepiece(steps)
    raise UnsupportedFormatError(
        f"the tokenizer decodes by {', '.join(kinds)}, expected ByteLevel, Metaspace, "
        "or Replace, ByteFallback, Fuse and Strip"
    )


def _sentencepiece(steps: Sequence[Mapping[str, Any]]) -> ByteRule:
    replacements = []
    drops_leading_space = False
    for step in steps:
        if step["type"] == "Replace":
            if "String" not in step["pattern"]:
                raise UnsupportedFormatError(
                    "the tokenizer decodes by a regular expression, expected a string"
                )
            old, new = step["pattern"]["String"], step["content"]
            if len(new) > len(old):
                raise UnsupportedFormatError(
                    f"the tokenizer decodes {old[:40]!r} as {new[:40]!r}, expected no more characters"
                )
            replacements.append((old, new))
        elif step["type"] == "Strip":
            if (step["content"], step["start"], step["stop"]) != (" ", 1, 0):
                raise UnsupportedFormatError(
                    f"the tokenizer decodes by {step}, expected to strip one leading space"
                )
            drops_leading_space = True
    has_byte_tokens = any(step["type"] == "ByteFallback" for step in steps)
    return ByteRule(_replaced(replacements, has_byte_tokens), drops_leading_space)


def _byte_level(token: str) -> bytes:
    try:
        return bytes(_ALPHABET[character] for character in token)
    except KeyError:  # an entry outside the alphabet means its own text
        return token.encode("utf-8")


def _replaced(replacements: Sequence[tuple[str, str]], has_byte_tokens: bool) -> Callable[[str], bytes]:
    def to_bytes(token: str) -> bytes:
        if has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode("utf-8")

    return to_bytes
