"""From the body of a response to what the service runs."""

from __future__ import annotations

from typing import Any

from tercet.sampling.constraints import ConstraintSpec
from tercet.server.generation.tools import choose_tools, tool_of
from tercet.server.responses.body import AllowedTools, FunctionChoice, InputItem, ResponseBody
from tercet.service.request import GenerationRequest

__all__ = ["conversation", "response_request"]


def response_request(body: ResponseBody, request_id: str) -> GenerationRequest:
    """Return what is asked of the service.

    Raises:
        ApiError: fields contradict each other.
        ParameterError: sampling values do.
    """
    tools, tool_choice = _tools(body)
    logprobs = (body.top_logprobs or 0) if body.wants_logprobs else None
    return GenerationRequest(
        id=request_id,
        messages=conversation(body),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        params=body.sampling_params(body.max_output_tokens, logprobs),
        constraint=_constraint(body),
        priority=body.priority or 0,
        cache_salt=body.salt,
        stream=bool(body.stream),
        metadata=body.metadata or {},
        model=body.model,
    )


def conversation(body: ResponseBody) -> list[dict[str, Any]]:
    """Return instructions and input as messages; calls join the assistant's words before them."""
    messages: list[dict[str, Any]] = []
    if body.instructions is not None:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    for item in body.input:
        if item.type == "message":
            role = "system" if item.role == "developer" else item.role
            messages.append({"role": role, "content": item.text})
        elif item.type == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(_call(item))
        else:
            messages.append({"role": "tool", "content": item.text, "tool_call_id": item.call_id})
    return messages


def _call(item: InputItem) -> dict[str, Any]:
    function = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _constraint(body: ResponseBody) -> ConstraintSpec | None:
    asked = None if body.text is None else body.text.format
    if asked is None or asked.type == "text":
        return None
    return ConstraintSpec(asked.type, asked.schema_ if asked.type == "json_schema" else None)


def _tools(body: ResponseBody) -> tuple[list[dict[str, Any]] | None, str | dict[str, Any] | None]:
    tools = [tool_of(one.name, one.description, one.parameters, one.strict) for one in body.tools or ()]
    choice = body.tool_choice
    if isinstance(choice, FunctionChoice):
        return choose_tools(tools, None, choice.name, None)
    if isinstance(choice, AllowedTools):
        return choose_tools(tools, choice.mode, None, [one.name for one in choice.tools])
    return choose_tools(tools, choice, None, None)
