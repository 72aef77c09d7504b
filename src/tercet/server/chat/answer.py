"""From what the service gives to chat completions and their chunks.

    {"role": "assistant", "content": ""}  {"content": "Once"}  {"content": " upon"}  {}, "stop"  usage  [DONE]

Both forms go through the same parser of tool calls, so the pieces of a stream are the text of the answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.server.generation.accounts import completion_id, fingerprint, token_logprobs, usage
from tercet.server.generation.choices import Choices, finish_reason
from tercet.server.streaming.events import DONE, event
from tercet.service.served_model import ServedModel
from tercet.service.tool_call_parser import CallDelta, ContentDelta, ToolCallParser

__all__ = ["ChatAnswer"]


@dataclass
class _Turn:
    """One choice while it is read."""

    parser: ToolCallParser | None
    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)

    def push(self, text: str, last: bool = False) -> list[dict[str, Any]]:
        """Take more text; returns what changes in the message, as deltas."""
        if self.parser is None:
            self.content += text
            return [{"content": text}] if text else []
        deltas = self.parser.push(text) if text else []
        if last:
            deltas = [*deltas, *self.parser.finish()]
        return [self._apply(delta) for delta in deltas]

    def _apply(self, delta: ContentDelta | CallDelta) -> dict[str, Any]:
        if isinstance(delta, ContentDelta):
            self.content += delta.text
            return {"content": delta.text}
        function: dict[str, Any] = {"arguments": delta.arguments}
        call: dict[str, Any] = {"index": delta.index, "function": function}
        if delta.id is not None:
            call = {"index": delta.index, "id": delta.id, "type": "function", "function": function}
            function["name"] = delta.name
            self.calls.append(
                {"id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": ""}}
            )
        self.calls[delta.index]["function"]["arguments"] += delta.arguments
        return {"tool_calls": [call]}

    def finish_reason(self, result: GenerationResult) -> str:
        """Why the turn ended, in OpenAI's words."""
        reason = finish_reason(result)
        return "tool_calls" if self.calls and reason == "stop" else reason


class ChatAnswer:
    """Writes the answer to one request.

    Args:
        served: the model that answers.
        new_parser: makes a parser of tool calls for a choice; None where no tool may be called.
        logprobs: whether log probabilities are asked for.
    """

    def __init__(
        self, served: ServedModel, new_parser: Callable[[], ToolCallParser] | None, logprobs: bool
    ) -> None:
        self._new_parser = new_parser
        self._logprobs = logprobs
        self._tokenizer = served.llm.tokenizer
        self._id = completion_id("chatcmpl-")
        self._about = {
            "created": int(time.time()),
            "model": served.name,
            "service_tier": "default",
            "system_fingerprint": fingerprint(served.llm),
        }

    def whole(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """Return the chat completion of finished generations."""
        return {
            **self._frame("chat.completion"),
            "choices": [self._choice(index, result) for index, result in enumerate(results)],
            "usage": usage(results),
        }

    async def stream(self, choices: Choices, include_usage: bool) -> AsyncGenerator[bytes, None]:
        """Give the chunks as events."""
        turns = [self._turn() for _ in choices.generations]
        begun = [False] * len(turns)
        results: list[GenerationResult | None] = [None] * len(turns)
        items = choices.events()
        try:
            async for index, item in items:
                if not begun[index]:
                    begun[index] = True
                    opening = {"role": "assistant", "content": "", "refusal": None}
                    yield self._chunk(include_usage, index, opening)
                turn = turns[index]
                if isinstance(item, GenerationResult):
                    results[index] = item
                    for delta in turn.push("", last=True):
                        yield self._chunk(include_usage, index, delta)
                    yield self._chunk(include_usage, index, {}, finish=turn.finish_reason(item))
                    continue
                logprobs = token_logprobs(self._tokenizer, item.logprobs) if self._logprobs else None
                for delta in turn.push(item.text) or ([{"content": ""}] if logprobs else []):
                    yield self._chunk(include_usage, index, delta, logprobs)
                    logprobs = None  # they go with the first delta of their text
        finally:
            await items.aclose()
        if include_usage:
            total = usage([result for result in results if result is not None])
            yield event({**self._frame("chat.completion.chunk"), "choices": [], "usage": total})
        yield DONE

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, **self._about}

    def _turn(self) -> _Turn:
        return _Turn(None if self._new_parser is None else self._new_parser())

    def _choice(self, index: int, result: GenerationResult) -> dict[str, Any]:
        turn = self._turn()
        turn.push(result.text, last=True)
        message: dict[str, Any] = {"role": "assistant", "content": turn.content, "refusal": None}
        if turn.calls:
            message |= {"content": turn.content or None, "tool_calls": turn.calls}
        content = token_logprobs(self._tokenizer, result.logprobs) if self._logprobs else None
        return {
            "index": index,
            "message": message,
            "logprobs": None if content is None else {"content": content, "refusal": None},
            "finish_reason": turn.finish_reason(result),
        }

    def _chunk(
        self,
        include_usage: bool,
        index: int,
        delta: dict[str, Any],
        logprobs: list[dict[str, Any]] | None = None,
        finish: str | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
            "finish_reason": finish,
        }
        chunk = {**self._frame("chat.completion.chunk"), "choices": [choice]}
        return event({**chunk, "usage": None} if include_usage else chunk)
