"""From the body of a chat completion to what the service runs, one request for each choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tercet.server.chat.body import AllowedToolsChoice, ChatBody, ChatMessage, NamedTool
from tercet.server.generation.tools import choose_tools, tool_of
from tercet.service.request import GenerationRequest

__all__ = ["chat_requests", "message_of"]


def chat_requests(body: ChatBody, request_id: str) -> Iterator[GenerationRequest]:
    """Give the request of each choice.

    Raises:
        ApiError: fields contradict each other.
        ParameterError: sampling values do.
    """
    tools, tool_choice = _tools(body)
    messages = [message_of(message) for message in body.messages]
    constraint = body.constraint()
    max_tokens = body.max_completion_tokens or body.max_tokens
    for choice in range(body.n or 1):
        yield GenerationRequest(
            id=request_id if choice == 0 else f"{request_id}-{choice}",
            messages=messages,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            params=body.sampling_params(
                max_tokens, (body.top_logprobs or 0) if body.logprobs else None, choice
            ),
            constraint=constraint,
            priority=body.priority or 0,
            cache_salt=body.salt,
            stream=bool(body.stream),
            metadata=body.metadata or {},
            model=body.model,
        )


def message_of(message: ChatMessage) -> dict[str, Any]:
    """Return the message as the service takes it: text, and calls of tools."""
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text,
    }
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _tools(body: ChatBody) -> tuple[list[dict[str, Any]] | None, str | dict[str, Any] | None]:
    described = [tool.function for tool in body.tools or ()]
    tools = [tool_of(one.name, one.description, one.parameters, one.strict) for one in described]
    choice = body.tool_choice
    if isinstance(choice, NamedTool):
        return choose_tools(tools, None, choice.function.name, None)
    if isinstance(choice, AllowedToolsChoice):
        names = [one.function.name for one in choice.allowed_tools.tools]
        return choose_tools(tools, choice.allowed_tools.mode, None, names)
    return choose_tools(tools, choice, None, None)
