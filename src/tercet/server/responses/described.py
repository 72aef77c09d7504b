"""A response, as /openapi.json describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tercet.server.generation.described import ChosenToken, Described

__all__ = ["ResponseObject"]

Ended = Literal["completed", "incomplete"]


class OutputText(Described):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[ChosenToken]


class OutputMessage(Described):
    """Words for people."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Ended
    content: list[OutputText]


class OutputCall(Described):
    """A call that the client is asked to make."""

    id: str
    type: Literal["function_call"]
    status: Ended
    call_id: str
    name: str
    arguments: str


class IncompleteDetails(Described):
    """Why the answer ends where it does."""

    reason: Literal["max_output_tokens"]


class InputTokens(Described):
    """Where the tokens of the input came from."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokens(Described):
    """What the tokens of the output were for."""

    reasoning_tokens: int


class ResponseUsage(Described):
    """How many tokens were read and written."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseObject(Described):
    """The answer to an input, and what the request asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Ended
    error: None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[OutputMessage | OutputCall]
    usage: ResponseUsage
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    top_logprobs: int
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    truncation: Literal["disabled"]
    reasoning: dict[str, None]
    background: Literal[False]
    store: Literal[False]
    service_tier: Literal["default"]
    previous_response_id: None
    prompt_cache_key: str | None
    safety_identifier: str | None
    user: str | None
