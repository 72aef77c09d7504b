"""Texts as OpenAI's older routes take them: one or several, as strings or as token ids."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import Discriminator, Field, Tag

__all__ = ["Texts", "as_list"]

MOST_TEXTS = 2048
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


def _kind(value: Any) -> str:
    """Which of the four forms is meant, so that an error is about that one."""
    if not isinstance(value, list):
        return "<text>"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "<token lists>"
    return "<tokens>" if isinstance(first, (int, float)) else "<texts>"


Texts = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[TokenIds, Tag("<tokens>")]
    | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS), Tag("<texts>")]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MOST_TEXTS), Tag("<token lists>")],
    Discriminator(_kind),
]


def as_list(texts: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """Return one or several texts as a list."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts[0], int):
        return [texts]
    return cast("list[str | list[int]]", texts)
