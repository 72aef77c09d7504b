"""The turns of a conversation, from the ways in which data sets write them.

    {"role": "user", "content": "..."}                       OpenAI, TRL
    {"role": "user", "content": [{"type": "text", ...}]}     the same in parts
    {"from": "human", "value": "..."}                        ShareGPT
    {"input": "...", "output": "..."}                        a question and its answer in one

Names of roles are those that are met in the wild (`human`, `gpt`, `observation`, ...). From the assistant,
`"weight": 0` or `"train": false` says that this turn is not learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tercet.data.rows import RowError

__all__ = ["Turn", "read_turns"]

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "ai", "function_call"),
    "tool": ("tool", "observation", "function", "function_response", "ipython"),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    role: str
    """One of `tercet.tokenization.chat_template.ROLES`."""
    content: str
    learned: bool = True
    """Whether this turn is learned, if it is the assistant's."""
    more: tuple[tuple[str, Any], ...] = ()
    """Further fields of the message: calls of tools and the like."""

    def message(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        return {"role": self.role, "content": self.content, **dict(self.more)}

    def unlearned(self) -> Turn:
        """The same, as context only."""
        return replace(self, learned=False)


def read_turns(value: object, column: str) -> list[Turn]:
    """Read a list of messages.

    Raises:
        RowError: a message is malformed; the message says which.
    """
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{column} must be a list of messages, and is a {type(value).__name__}")
    if not value:
        raise RowError(f"{column} is an empty list")
    turns: list[Turn] = []
    for index, message in enumerate(value):
        place = f"{column}[{index}]"
        if not isinstance(message, Mapping):
            raise RowError(f"{place} must be an object with role and content, not a {type(message).__name__}")
        turns += _read_turn(message, place)
    return turns


def _read_turn(message: Mapping[str, Any], place: str) -> list[Turn]:
    if "role" not in message and "from" not in message and {"input", "output"} <= set(message):
        question, answer = (_content(message[key], f"{place}.{key}", False) for key in ("input", "output"))
        return [Turn("user", question), Turn("assistant", answer)]
    name = message.get("role", message.get("from"))
    role = _ROLE_OF.get(str(name).strip().lower())
    if role is None:
        told = f"the role {name!r}" if name is not None else f"no role ({', '.join(map(str, message))})"
        raise RowError(f"{place} has {told}; the roles are system, user, assistant and tool")
    key = next((key for key in ("content", "value", "text") if message.get(key) is not None), None)
    calls = _calls(message, place) if role == "assistant" else ()
    if key is None and not calls:
        raise RowError(f"{place} has no content; it has {', '.join(map(str, message))}")
    content = message.get(key) if key is not None else None
    if str(name).strip().lower() == "function_call":
        calls, content = (_function_call(content, place),), ""
    more: list[tuple[str, Any]] = [("tool_calls", list(calls))] if calls else []
    if role == "tool":
        more += [(key, message[key]) for key in ("tool_call_id", "name") if message.get(key)]
    text = _content(content, f"{place}.{key or 'content'}", bool(calls))
    return [Turn(role, text, _is_learned(message), tuple(more))]


def _is_learned(message: Mapping[str, Any]) -> bool:
    weight, train = message.get("weight"), message.get("train", message.get("training"))
    return (weight is None or bool(weight)) and (train is None or bool(train))


def _content(value: object, place: str, may_be_empty: bool) -> str:
    if isinstance(value, str):
        return value
    if value is None and may_be_empty:
        return ""
    if isinstance(value, (list, tuple)):
        return "".join(_part(part, place) for part in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise RowError(f"{place} must be a string, and is {'null' if value is None else type(value).__name__}")


def _part(part: object, place: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise RowError(f"{place} has a part of the type {kind!r}; the model reads text only")


def _calls(message: Mapping[str, Any], place: str) -> tuple[dict[str, Any], ...]:
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise RowError(f"{place}.tool_calls must be a list")
    read = []
    for number, call in enumerate(calls):
        where = f"{place}.tool_calls[{number}]"
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RowError(f"{where} must have a function with a name and arguments")
        arguments = _arguments(function.get("arguments"), where)
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        }
        if isinstance(call.get("id"), str):
            made["id"] = call["id"]
        read.append(made)
    return tuple(read)


def _function_call(value: object, place: str) -> dict[str, Any]:
    """ShareGPT: the call is the text of a turn."""
    try:
        call = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise RowError(
            f"{place}: a function_call is the JSON of a call, and this is not ({error})"
        ) from error
    return _calls({"tool_calls": [call]}, place)[0]


def _arguments(value: object, place: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise RowError(f"{place}.arguments is not JSON ({error})") from error
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RowError(f"{place}.arguments must be an object")
    # Parquet gives every call the fields of all; those that this one lacks are null.
    return {key: member for key, member in value.items() if member is not None}
