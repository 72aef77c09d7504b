"""A chat completion, as /openapi.json describes it."""

from __future__ import annotations

from typing import Literal

from tercet.server.generation.described import ChosenToken, Described, Usage

__all__ = ["ChatCompletion"]


class Function(Described):
    """A function, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Described):
    """A call that the client is asked to make."""

    id: str
    type: Literal["function"]
    function: Function


class AnswerMessage(Described):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None


class ChoiceLogprobs(Described):
    """One object for each token."""

    content: list[ChosenToken]
    refusal: None


class Choice(Described):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Described):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    service_tier: Literal["default"]
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage
