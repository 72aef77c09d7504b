"""From what the service gives to a response, or to the events that build it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.sampling.logprobs import TokenLogprobs
from tercet.server.errors import error_object, from_exception
from tercet.server.generation.accounts import completion_id, token_logprobs
from tercet.server.generation.choices import Choices, finish_reason
from tercet.server.responses.body import ResponseBody
from tercet.server.responses.output import Output
from tercet.server.streaming.events import named_event
from tercet.service.request import GenerationRequest
from tercet.service.served_model import ServedModel
from tercet.service.tool_call_parser import ContentDelta, Delta, ToolCallParser

__all__ = ["ResponseAnswer"]

_INCOMPLETE = {"length": "max_output_tokens"}
"""Why an answer is not complete, where the word for it is another one here."""


class ResponseAnswer:
    """Writes the answer to one request, once.

    Args:
        served: the model that answers.
        body: what the client asked for.
        request: what that is for the service.
    """

    def __init__(self, served: ServedModel, body: ResponseBody, request: GenerationRequest) -> None:
        self._served = served
        self._body = body
        self._output = Output()
        self._sequence_number = 0
        self._parser: ToolCallParser | None = None
        if request.tools and request.tool_choice != "none":
            self._parser = ToolCallParser(request.tools, parallel=request.parallel_tool_calls)
        params = served.llm.sampling(request.params, {})
        self._response = {
            **_frame(body),
            "model": served.name,
            "temperature": params.temperature,
            "top_p": params.top_p,
        }

    def whole(self, result: GenerationResult) -> dict[str, Any]:
        """Return the response of a finished generation."""
        for _ in (*self._write(result.text, result.logprobs), *self._end(result)):
            pass
        return self._response

    async def stream(self, choices: Choices) -> AsyncGenerator[bytes, None]:
        """Give the events of the only choice."""
        begun = False
        items = choices.events()
        try:
            async for _, item in items:
                if not begun:
                    begun = True
                    yield self._event({"type": "response.created", "response": self._response})
                    yield self._event({"type": "response.in_progress", "response": self._response})
                if isinstance(item, GenerationResult):
                    for event in self._end(item):
                        yield self._event(event)
                else:
                    for event in self._write(item.text, item.logprobs):
                        yield self._event(event)
        finally:
            await items.aclose()
        name = "response.completed" if self._response["status"] == "completed" else "response.incomplete"
        yield self._event({"type": name, "response": self._response})

    def failed(self, error: Exception) -> bytes:
        """Return the events that end a stream with an error: it, and the response as far as it came."""
        said = error_object(error)[1]["error"]
        code = said["code"] or said["type"]
        report = {"type": "error", "code": code, "message": said["message"], "param": said["param"]}
        overloaded = from_exception(error).status == 429
        response = {
            **self._response,
            "status": "failed",
            "output": self._output.items,
            "error": {
                "code": "rate_limit_exceeded" if overloaded else "server_error",
                "message": said["message"],
            },
        }
        return self._event(report) + self._event({"type": "response.failed", "response": response})

    def _write(self, text: str, tokens: list[TokenLogprobs]) -> Iterator[dict[str, Any]]:
        logprobs = self._logprobs(tokens)
        if self._parser is not None:
            yield from self._write_deltas(self._parser.push(text), logprobs)
        elif text or logprobs:
            yield from self._output.write_text(text, logprobs)

    def _end(self, result: GenerationResult) -> Iterator[dict[str, Any]]:
        if self._parser is not None:
            yield from self._write_deltas(self._parser.finish(), [])
        reason = finish_reason(result)
        complete = reason == "stop"
        if not self._output.items:
            yield from self._output.write_text("", [])
        yield from self._output.close("completed" if complete else "incomplete")
        self._response |= {
            "status": "completed" if complete else "incomplete",
            "incomplete_details": None if complete else {"reason": _INCOMPLETE.get(reason, reason)},
            "completed_at": int(time.time()) if complete else None,
            "output": self._output.items,
            "usage": _usage(result),
        }

    def _write_deltas(self, deltas: list[Delta], logprobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for delta in deltas:
            # Those of the tokens of one step go with its first text; a call has none.
            yield from self._output.write(delta, logprobs)
            if isinstance(delta, ContentDelta):
                logprobs = []

    def _logprobs(self, tokens: list[TokenLogprobs]) -> list[dict[str, Any]]:
        if not self._body.wants_logprobs:
            return []
        return token_logprobs(self._served.llm.tokenizer, tokens)

    def _event(self, event: dict[str, Any]) -> bytes:
        self._sequence_number += 1
        return named_event(event["type"], {**event, "sequence_number": self._sequence_number - 1})


def _frame(body: ResponseBody) -> dict[str, Any]:
    """What a response says of its request."""
    text = body.text
    asked = (
        None
        if text is None or text.format is None
        else text.format.model_dump(by_alias=True, exclude_unset=True)
    )
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": True if tool.strict is None else tool.strict,
        }
        for tool in body.tools or ()
    ]
    choice = body.tool_choice
    return {
        "id": completion_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": False,
        "text": {"format": asked or {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto"
        if choice is None
        else choice
        if isinstance(choice, str)
        else choice.model_dump(),
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _usage(result: GenerationResult) -> dict[str, Any]:
    return {
        "input_tokens": result.prompt_tokens,
        "input_tokens_details": {"cached_tokens": result.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": result.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": result.prompt_tokens + result.generated_tokens,
    }
