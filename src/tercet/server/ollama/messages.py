"""Conversations and calls of tools in Ollama's shape: arguments are an object there, and text with us."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.server.chat.body import Tool
from tercet.server.generation.tools import choose_tools, tool_of
from tercet.server.ollama.bodies import OllamaMessage
from tercet.service.tool_calls import CallDelta, ContentDelta, ToolCallParser

__all__ = ["Turn", "conversation", "tools_of"]


def conversation(messages: Sequence[OllamaMessage]) -> list[dict[str, Any]]:
    """The messages as the service takes them. What a tool gave belongs to the call it names, or the next."""
    turns: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = calls = [
                {
                    "id": call.id or f"call_{number}_{index}",
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": json.dumps(call.function.arguments, ensure_ascii=False),
                    },
                }
                for index, call in enumerate(message.tool_calls)
            ]
            open_calls = [str(call["id"]) for call in calls]
        if message.role == "tool":
            turn["tool_call_id"] = message.tool_call_id or (
                open_calls.pop(0) if open_calls else f"call_{number}"
            )
        turns.append(turn)
    return turns


def tools_of(tools: Sequence[Tool] | None) -> list[dict[str, Any]] | None:
    """The tools as the service takes them.

    Raises:
        ApiError: two have one name.
    """
    functions = [tool.function for tool in tools or ()]
    described = [tool_of(one.name, one.description, one.parameters, one.strict) for one in functions]
    return choose_tools(described, None, None, None)[0]


@dataclass
class Turn:
    """The answer while it is read: its text, and the calls that are complete.

    `parser` is None where no tool may be called.
    """

    parser: ToolCallParser | None
    calls: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[int, dict[str, str]] = field(default_factory=dict)

    def push(self, text: str, last: bool = False) -> str:
        """Take more text; returns what of it is for people. Calls are complete with the last piece."""
        if self.parser is None:
            return text
        deltas = self.parser.push(text) if text else []
        if last:
            deltas = [*deltas, *self.parser.finish()]
        shown = "".join(self._apply(delta) for delta in deltas)
        if last:
            self.calls = [_call(index, call) for index, call in sorted(self._open.items())]
        return shown

    def _apply(self, delta: ContentDelta | CallDelta) -> str:
        if isinstance(delta, ContentDelta):
            return delta.text
        call = self._open.setdefault(delta.index, {"name": "", "arguments": "", "id": delta.id or ""})
        call["name"] = delta.name or call["name"]
        call["arguments"] += delta.arguments
        return ""


def _call(index: int, call: dict[str, str]) -> dict[str, Any]:
    arguments: Any = {}
    with contextlib.suppress(ValueError):  # cut off by max_tokens: what has come is no object
        arguments = json.loads(call["arguments"] or "{}")
    function = {
        "index": index,
        "name": call["name"],
        "arguments": arguments if isinstance(arguments, dict) else {},
    }
    return {"id": call["id"], "function": function}
