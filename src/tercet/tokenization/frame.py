"""The control tokens around a text: what the post-processor of a tokenizer.json adds.

A conversation is framed by its chat template, and a text that a model continues begins with its begin token.
An embedding model reads neither; it was trained with what the file's post-processor puts around a text, and
where the vector is made from the last token, that token is often an end token from here.

    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
     "special_tokens": {"<s>": {"ids": [1], ...}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tercet.errors import FormatError, UnsupportedFormatError

__all__ = ["read_frame", "with_end"]

_ADDS_NOTHING = ("ByteLevel",)


def read_frame(tokenizer_json: bytes) -> tuple[list[int], list[int]]:
    """Return the ids that come before a text and those that come behind it.

    Args:
        tokenizer_json: the bytes of a tokenizer.json that the library has opened.

    Raises:
        FormatError: the post-processor is damaged.
        UnsupportedFormatError: it is of a kind that no decoder has.
    """
    before: list[int] = []
    behind: list[int] = []
    try:
        for step in _steps(json.loads(tokenizer_json).get("post_processor")):
            if step["type"] in _ADDS_NOTHING:
                continue
            if step["type"] != "TemplateProcessing":
                raise UnsupportedFormatError(
                    f"the tokenizer frames texts by {step['type']!r}, expected TemplateProcessing"
                )
            first, last = _around(step)
            before, behind = [*first, *before], [*behind, *last]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"the tokenizer's post-processor is damaged: {error!r}") from error
    return before, behind


def with_end(tokenizer_json: bytes, token_id: int, text: str) -> bytes:
    """Return a tokenizer.json without post-processor with one that puts a control token behind every text."""
    special = {"id": text, "ids": [token_id], "tokens": [text]}
    first, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": text, "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [first, end],
        "pair": [first, end, second, end],
        "special_tokens": {text: special},
    }
    framed = json.loads(tokenizer_json) | {"post_processor": processor}
    return json.dumps(framed, ensure_ascii=False).encode("utf-8")


def _steps(processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if processor is None:
        return []
    return list(processor["processors"]) if processor["type"] == "Sequence" else [processor]


def _around(step: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for part in step["single"]:
        if "Sequence" in part:
            texts += 1
            continue
        for token_id in step["special_tokens"][part["SpecialToken"]["id"]]["ids"]:
            if type(token_id) is not int or token_id < 0:
                raise FormatError(f"the tokenizer frames texts by {token_id!r}, which is no token id")
            sides[min(texts, 1)].append(token_id)
    if texts != 1:
        raise UnsupportedFormatError(
            f"the tokenizer writes a text {texts} times into its frame, expected once"
        )
    return sides
