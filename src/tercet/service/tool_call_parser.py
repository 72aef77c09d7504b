"""The text that a model writes, as it comes, into words for people and calls of tools.

Models say that they want a tool in a few ways, and all of these are understood, whatever the template:

    <tool_call>{"name": "f", "arguments": {...}}</tool_call>      Qwen, Hermes and many others; anywhere
    {"name": "f", "parameters": {...}}                            Llama 3; instead of any other text
    {"name": "f", "arguments": {...}}  or a list of such          what Tercet asks other models for
    {"type": "function", "function": {...}}                       OpenAI's own, which some models imitate

Anything else is text, also JSON that only resembles a call: a call has the name of a tool that there is.
Arguments are passed on while they are written. Text that may turn out to begin a call is held back until it
does, or does not.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["CALL_MARKS", "CallDelta", "ContentDelta", "Delta", "ToolCallParser", "new_call_id"]

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_MARKS = (_OPENING, "<|python_tag|>", "[TOOL_CALLS]")
CALL_MARKS = (*_MARKS, _CLOSING)
"""What stands around a call. In some vocabularies they are control tokens, which a parser must see, too."""
_STRING = r'"(?:[^"\\]|\\.)*"'
_FIRST_KEY = re.compile(rf"\s*\{{\s*(?:({_STRING})|[^\s\"])")
_NAME = re.compile(rf'\s*\{{\s*"name"\s*:\s*({_STRING})')
_HEADER = re.compile(rf'{_NAME.pattern}\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_CALL_KEYS = ("name", "type", "function", "id", "arguments", "parameters")
_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


@dataclass(frozen=True)
class ContentDelta:
    """More text for people."""

    text: str


@dataclass(frozen=True)
class CallDelta:
    """A call begins (it has an id and a name then), or goes on; all `arguments` joined are its JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


Delta: TypeAlias = "ContentDelta | CallDelta"


def new_call_id() -> str:
    """Return an identifier that no other call has."""
    return f"call_{secrets.token_hex(12)}"


class ToolCallParser:
    """Reads one answer.

    Args:
        tools: those that the model may call, as OpenAI writes them.
        parallel: whether there may be more than one call; if not, the others are left out.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]], *, parallel: bool = True) -> None:
        self._names = frozenset(tool["function"]["name"] for tool in tools)
        self._parallel = parallel
        self._text = ""  # what has come and is not settled
        self._prefix = ""  # what was taken away in front of it, because a call seems to begin
        self._value = _JsonValue()
        self._read: Callable[[], bool] = self._read_text
        self._at_start = True  # only there may a call come without a mark
        self._is_tagged = False
        self._is_listed = False
        self._num_calls = 0
        self._deltas: list[Delta] = []

    def push(self, text: str) -> list[Delta]:
        """Take more of the answer; return what is certain now."""
        self._text += text
        while self._text and self._read():
            pass
        return self._taken()

    def finish(self) -> list[Delta]:
        """The answer has ended: what was held back is text, unless a call stands before it."""
        if self._read in (self._read_text, self._read_call):
            self._say(self._prefix + self._text)
        self._text = self._prefix = ""
        return self._taken()

    # Each of these looks at the text that is not settled and takes of it what it can. They return whether
    # there may be more to take.

    def _read_text(self) -> bool:
        blank = self._text[: len(self._text) - len(self._text.lstrip())]
        rest = self._text[len(blank) :]
        if self._at_start and rest[:1] in ("{", "[") and not _MARKS[2].startswith(rest[: len(_MARKS[2])]):
            return self._enter_call(blank, rest)
        found = [(position, mark) for mark in _MARKS if (position := self._text.find(mark)) >= 0]
        if found:
            position, mark = min(found)
            words = self._text[:position].rstrip()
            self._say(words)
            end = position + len(mark)
            self._is_tagged = mark == _OPENING
            return self._enter_call(self._text[len(words) : end], self._text[end:])
        settled = len(self._text) - _unsettled(self._text)
        self._say(self._text[:settled])
        self._text = self._text[settled:]
        return False

    def _enter_call(self, prefix: str, text: str) -> bool:
        self._prefix, self._text, self._read = prefix, text, self._read_call
        self._value = _JsonValue()
        return True

    def _read_call(self) -> bool:
        if not self._is_listed and self._text.lstrip().startswith("["):
            self._is_listed = True
            begin = self._text.index("[") + 1
            return self._enter_call(self._prefix + self._text[:begin], self._text[begin:])
        if header := _HEADER.match(self._text):
            name = _string(header[1])
            if name is not None and name in self._names:
                self._text = self._text[header.end() :]
                self._begin_call(name)
                self._value, self._read = _JsonValue(), self._read_arguments
                return True
        if not self._may_be_call():
            return self._reject(1)
        end = self._value.find_end(self._text)
        if end is None:
            return False
        call = _call_of(self._text[:end], self._names)
        if call is None:
            return self._reject(end)
        self._begin_call(*call)
        self._text, self._read = self._text[end:], self._read_separator
        return True

    def _may_be_call(self) -> bool:
        """Whether what has come of an object leaves the possibility."""
        stripped = self._text.lstrip()
        if stripped and stripped[0] != "{":
            return False
        key, name = _FIRST_KEY.match(self._text), _NAME.match(self._text)
        if key and (key[1] is None or _string(key[1]) not in _CALL_KEYS):
            return False
        return not name or _string(name[1]) in self._names

    def _reject(self, end: int) -> bool:
        """It was no call: what seemed to be one is text, up to `end`."""
        self._say(self._prefix + self._text[:end])
        self._prefix, self._text = "", self._text[end:]
        self._is_listed = self._is_tagged = False
        self._read = self._read_text
        return True

    def _begin_call(self, name: str, arguments: str = "") -> None:
        self._prefix, self._at_start = "", False
        self._num_calls += 1
        if self._is_wanted:
            self._deltas.append(CallDelta(self._num_calls - 1, new_call_id(), name, arguments))

    @property
    def _is_wanted(self) -> bool:
        return self._parallel or self._num_calls == 1

    def _read_arguments(self) -> bool:
        end = self._value.find_end(self._text)
        piece = self._text if end is None else self._text[:end]
        if self._is_wanted:
            self._deltas.append(CallDelta(self._num_calls - 1, arguments=piece))
        self._text = self._text[len(piece) :]
        self._value.forget(len(piece))
        if end is None:
            return False
        self._value, self._read = _JsonValue(depth=1), self._read_rest_of_object
        return True

    def _read_rest_of_object(self) -> bool:
        end = self._value.find_end(self._text)
        if end is None:
            return False
        self._text, self._read = self._text[end:], self._read_separator
        return True

    def _read_separator(self) -> bool:
        """Behind a call: another one, the end of the mark, or text."""
        rest = self._text.lstrip()
        if not rest or (self._is_tagged and not self._is_listed and _is_beginning(rest, _CLOSING)):
            return False
        if self._is_listed and rest[0] in ",]":
            self._is_listed = rest[0] == ","
            self._text = rest[1:]
            return self._enter_call(rest[0], self._text) if self._is_listed else True
        if self._is_tagged and rest.startswith(_CLOSING):
            self._is_tagged = False
            self._text, self._read = rest[len(_CLOSING) :], self._read_text
            return True
        if not self._is_tagged and rest[0] == ";":
            self._text = rest[1:]
            return True
        self._is_listed = False
        if not self._is_tagged and rest[0] == "{":
            return self._enter_call(self._text[: len(self._text) - len(rest)], rest)
        self._is_tagged = False
        self._read = self._read_text
        return True

    def _say(self, text: str) -> None:
        if text:
            self._at_start = self._at_start and text.isspace()
            self._deltas.append(ContentDelta(text))

    def _taken(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return deltas


class _JsonValue:
    """Finds where a JSON object or list ends, in a text that grows. Looks at every character once."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._position = 0
        self._in_string = False
        self._is_escaped = False

    def find_end(self, text: str) -> int | None:
        """Return the position behind the value, None while it has not ended."""
        while self._position < len(text):
            if self._is_escaped:
                self._is_escaped = False
                self._position += 1
                continue
            found = (_IN_STRING if self._in_string else _STRUCTURE).search(text, self._position)
            if found is None:
                self._position = len(text)
                break
            self._position = found.end()
            if found[0] == '"':
                self._in_string = not self._in_string
            elif found[0] == "\\":
                self._is_escaped = True
            else:
                self._depth += 1 if found[0] in "{[" else -1
                if self._depth <= 0:
                    return self._position
        return None

    def forget(self, count: int) -> None:
        """The first characters of the text are gone."""
        self._position -= count


def _call_of(text: str, names: Collection[str]) -> tuple[str, str] | None:
    """Name and arguments, as JSON text, of a call that is complete; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, dict):
        return name, json.dumps(arguments, ensure_ascii=False)
    return (name, arguments) if isinstance(arguments, str) else None


def _string(literal: str) -> str | None:
    try:
        value: str = json.loads(literal)
    except ValueError:
        return None
    return value


def _unsettled(text: str) -> int:
    """How many characters at the end may belong to a mark, or be the blanks in front of one."""
    longest = max(
        (n for mark in _MARKS for n in range(1, min(len(mark), len(text) + 1)) if text.endswith(mark[:n])),
        default=0,
    )
    words = text[: len(text) - longest].rstrip()
    return len(text) - len(words)


def _is_beginning(text: str, whole: str) -> bool:
    return len(text) < len(whole) and whole.startswith(text)
