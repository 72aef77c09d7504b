"""Parts of answers that several routes share, as /openapi.json describes them.

Nothing is checked against these models while the server runs, which would cost more than the answer; a test
does it, with bodies that are made from the description of the requests.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["ChosenToken", "Described", "Token", "Usage"]


class Described(BaseModel):
    """The base of every description: no field is left out of it."""

    model_config = ConfigDict(extra="forbid")


class PromptTokens(Described):
    """Where the tokens of a prompt came from."""

    cached_tokens: int


class Usage(Described):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class Token(Described):
    """A token, and how likely the model found it."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(Token):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[Token]
