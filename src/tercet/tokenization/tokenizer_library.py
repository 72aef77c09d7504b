"""The `tokenizers` library, given a file from a stranger.

A tokenizer.json is a program: it says how text is rewritten, cut and put together. The library runs whatever
it says. So before anything is encoded, the parts are looked at that could do harm or lie:

    truncation, padding, dropout     switched off: the ids are those of the whole text, always the same
    post-processor                   taken out: it adds tokens around the text, or writes the text twice
    table of characters              checked (see `character_table`); a hostile one ends the process
    replacements                     may not make a text a thousand times longer

The library is written in Rust, where a bug is a panic: in Python an exception that `except Exception` does
not see. Here it is a FormatError like any other.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.character_table import CharacterTable

__all__ = ["as_json", "library_errors", "open_tokenizer"]

SOURCE = "the tokenizer"
MAX_GROWTH = 1024
"""What rewriting may make of one character. No published tokenizer makes more than three."""


def open_tokenizer(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    """Make the library's tokenizer, after checking what it would do.

    Args:
        tokenizer_json: the bytes of a tokenizer.json.

    Raises:
        FormatError: they are none, or a part is damaged.
        UnsupportedFormatError: it rewrites text in a way that takes memory without bound.
    """
    with library_errors("the tokenizer is damaged or not a tokenizer.json"):
        tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        normalizer = as_json(tokenizer.normalizer)
    _check_rewriting(normalizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # a training option: it makes the ids random
    return tokenizer


def as_json(component: Any) -> Any:
    """Return what a tokenizer.json says of a component of the library; None where there is none."""
    return None if component is None else json.loads(component.__getstate__())


@contextlib.contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn whatever the library raises inside the block, panics included, into a FormatError.

    Args:
        what: what cannot be done, the beginning of the message.
    """
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # the library raises this very class, or a subclass, depending on its version
        raise FormatError(f"{what}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the library does not export the class
            raise
        raise FormatError(f"{what}: {error}") from error


def _check_rewriting(normalizer: Mapping[str, Any] | None) -> None:
    growth = 1.0
    for step in _steps(normalizer):
        if step["type"] == "Precompiled":
            CharacterTable(_decoded(step["precompiled_charsmap"]), SOURCE)
        elif step["type"] == "Replace":
            growth *= _growth(step["pattern"], step["content"])
        elif step["type"] == "Prepend":
            growth += len(step["prepend"])
    if growth > MAX_GROWTH:
        raise UnsupportedFormatError(
            f"{SOURCE} rewrites a text so that it becomes up to {growth:,.0f} times longer, "
            f"expected at most {MAX_GROWTH:,} times. No tokenizer needs that; take the original one."
        )


def _steps(step: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a normalizer; sequences may hold sequences."""
    if step is None:
        return
    if step["type"] != "Sequence":
        yield step
        return
    for inner in step["normalizers"]:
        yield from _steps(inner)


def _growth(pattern: Mapping[str, str], content: str) -> float:
    """Return how much longer a replacement makes a text at most."""
    if "String" not in pattern:
        return 1.0 + len(content)  # a regular expression may match between any two characters
    if not pattern["String"]:
        raise UnsupportedFormatError(f"{SOURCE} replaces an empty text, which is everywhere")
    return max(1.0, len(content) / len(pattern["String"]))


def _decoded(table: str | list[int]) -> bytes:
    try:
        return base64.b64decode(table, validate=True) if isinstance(table, str) else bytes(table)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{SOURCE}: its table of characters is not base64: {error}") from error
