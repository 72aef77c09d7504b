"""Embeddings, as /openapi.json describes them."""

from __future__ import annotations

from typing import Literal

from tercet.server.generation.described import Described

__all__ = ["EmbeddingList"]


class EmbeddingUsage(Described):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Described):
    """The vector of one text: numbers, or float32 in little endian as base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Described):
    """The vectors of all texts."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
