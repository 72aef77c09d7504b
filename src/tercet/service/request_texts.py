"""All text of a request that the model is to read, and the request with other text in its places.

A prompt, what messages say, calls and results of tools, descriptions of tools. Token ids are read as the text
that they stand for, between control tokens, which stay; text that is changed is tokenized anew. Names and
schemas are looked at, but stay as they are: changed, they would be of another tool.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tercet.service.request import GenerationRequest

if TYPE_CHECKING:
    from tercet.tokenization import Tokenizer

__all__ = ["Look", "num_characters", "with_texts"]

Look = Callable[[str, str], str]
"""Gets the name of a field and its text, and returns what is to stand there; raises what keeps it out."""

_WORDS_OF_SCHEMAS = ("description", "title")
MOST_DEPTH = 64


def with_texts(request: GenerationRequest, look: Look, tokenizer: Tokenizer | None) -> GenerationRequest:
    """Return the request with each text as `look` returns it; the same one if nothing has changed."""
    if request.messages is not None:
        messages = [_message(one, f"messages[{index}]", look) for index, one in enumerate(request.messages)]
        tools = None
        if request.tools is not None:
            tools = [_tool(one, f"tools[{index}]", look) for index, one in enumerate(request.tools)]
        if messages == list(request.messages) and (tools is None or tools == list(request.tools or ())):
            return request
        return dataclasses.replace(request, messages=messages, tools=tools)
    prompt = request.prompt
    if isinstance(prompt, str):
        changed = look("prompt", prompt)
        return request if changed == prompt else dataclasses.replace(request, prompt=changed)
    if prompt is None or tokenizer is None:
        return request
    ids = _token_ids(prompt, look, tokenizer)
    return request if ids == list(prompt) else dataclasses.replace(request, prompt=ids)


def num_characters(request: GenerationRequest) -> int:
    """Return about how much there is to read; a token counts as four characters."""
    if request.messages is None:
        prompt = request.prompt or ""
        return len(prompt) * (1 if isinstance(prompt, str) else 4)
    return _size(request.messages) + _size(request.tools)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0


def _message(message: Any, where: str, look: Look) -> Any:
    if not isinstance(message, Mapping):  # whoever reads it says what is wrong with it
        return message
    changed = dict(message)
    for name in message.keys() - {"role", "content", "tool_calls"}:
        _look_only(message[name], f"{where}.{name}", look)
    if "content" in message:
        changed["content"] = _within(message["content"], f"{where}.content", look)
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        changed["tool_calls"] = [
            _call(one, f"{where}.tool_calls[{number}]", look) for number, one in enumerate(calls)
        ]
    return changed


def _call(call: Any, where: str, look: Look) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    _look_only(function.get("name"), f"{where}.function.name", look)
    arguments, place = function.get("arguments"), f"{where}.function.arguments"
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return {**call, "function": {**function, "arguments": look(place, str(arguments))}}
    changed = _within(value, place, look)
    if changed == value:
        return call
    written = json.dumps(changed, ensure_ascii=False) if isinstance(arguments, str) else changed
    return {**call, "function": {**function, "arguments": written}}


def _tool(tool: Any, where: str, look: Look) -> Any:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        return tool
    changed = dict(function)
    for name, value in function.items():
        if name == "parameters":
            changed[name] = _schema(value, f"{where}.function.parameters", look)
        elif name == "description":
            changed[name] = _within(value, f"{where}.function.description", look)
        else:
            _look_only(value, f"{where}.function.{name}", look)
    return {**tool, "function": changed}


def _schema(value: Any, where: str, look: Look, depth: int = 0) -> Any:
    """A schema whose words for people may change, and nothing else."""
    if depth > MOST_DEPTH or not isinstance(value, (Mapping, list, tuple)):
        _look_only(value, where, look)
        return value
    if not isinstance(value, Mapping):
        return [_schema(one, where, look, depth + 1) for one in value]
    changed = {}
    for name, one in value.items():
        look(where, str(name))
        is_words = name in _WORDS_OF_SCHEMAS and isinstance(one, str)
        changed[name] = look(where, one) if is_words else _schema(one, where, look, depth + 1)
    return changed


def _within(value: Any, where: str, look: Look, depth: int = 0) -> Any:
    """A text, or a value with texts in it; names of fields stay as they are."""
    if isinstance(value, str):
        return look(where, value)
    if depth > MOST_DEPTH:
        return value
    if isinstance(value, Mapping):
        for name in value:
            look(where, str(name))
        return {name: _within(one, where, look, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_within(one, where, look, depth + 1) for one in value]
    return value


def _look_only(value: Any, where: str, look: Look) -> None:
    _within(value, where, look)


def _token_ids(ids: Sequence[int], look: Look, tokenizer: Tokenizer) -> list[int]:
    """The ids with the text between control tokens as `look` returns it."""
    changed: list[int] = []
    segment: list[int] = []

    def close() -> None:
        if segment:
            text = tokenizer.decode(segment)
            seen = look("prompt", text)
            changed.extend(segment if seen == text else tokenizer.encode(seen))
            segment.clear()

    for token_id in ids:
        if token_id in tokenizer.special_ids:
            close()
            changed.append(token_id)
        else:
            segment.append(token_id)
    close()
    return changed
