"""A text completion, as /openapi.json describes it."""

from __future__ import annotations

from typing import Literal

from tercet.server.generation.described import Described, Usage

__all__ = ["Completion"]


class TextLogprobs(Described):
    """Parallel lists, one entry for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextChoice(Described):
    """One of the answers."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Described):
    """The texts that follow the prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage
