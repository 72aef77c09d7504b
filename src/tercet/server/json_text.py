"""JSON that means the same to everyone who reads it, or an error.

Python's reader takes more than JSON: NaN, numbers beyond any float, the last of two equal keys, half a
surrogate pair (which no later step could encode), other encodings than UTF-8. Each of these has let two
programs understand one text differently. Here they are refused, and the error says where.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["JsonTextError", "read_json"]

MAX_DEPTH = 64
MAX_INTEGER = 2**64 - 1
LARGEST_EXACT = 2**53
MAX_NUMBER_CHARACTERS = 400
SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")


class JsonTextError(ValueError):
    """The text is not JSON, not JSON with one meaning, or beyond a limit that JSON itself does not have.

    `param` is where, if that is a place in it; `code` is "invalid_json" or the limit.
    """

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_json") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def read_json(data: bytes) -> Any:
    """The value that a UTF-8 text says.

    Raises:
        JsonTextError: see the module.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonTextError(
            f"the body is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        ) from None
    try:
        value = _DECODER.decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonTextError(f"the body is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    if SURROGATE_ESCAPE.search(data):
        _check_surrogates(value)
    return value


def path_text(path: tuple[str | int, ...]) -> str:
    """A place as OpenAI writes it: messages[0].content."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")[:200]


def _too_deep(param: str | None = None) -> JsonTextError:
    return JsonTextError(f"the body is nested more than {MAX_DEPTH} levels deep", param, "nested_too_deeply")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JsonTextError(f"the name {name[:100]!r} appears twice in one object", name[:100])
            seen.add(name)
    return values


class _Refused(float):
    """A number that cannot be; the walk over the whole value finds it and knows its place."""

    reason = ""


def _refused(reason: str) -> _Refused:
    number = _Refused(0.0)
    number.reason = reason
    return number


def _constant(text: str) -> float:
    return _refused(f"{text} is not a JSON number")


def _float(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number):
        return _refused(f"{text[:20]} is beyond the largest number")
    # JSON has one kind of number, and to JSON Schema and JavaScript 1.0 is as whole as 1.
    return int(number) if number.is_integer() and abs(number) < LARGEST_EXACT else number


def _integer(text: str) -> int | float:
    if len(text) <= MAX_NUMBER_CHARACTERS and -MAX_INTEGER <= (number := int(text)) <= MAX_INTEGER:
        return number
    return _refused(f"an integer of {len(text)} digits is beyond the largest, {MAX_INTEGER}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_integer
)


def _containers(value: Any) -> Iterator[tuple[int, tuple[Any, ...], Any]]:
    """(depth, path as linked pairs, value) of every object and array; a loop, so that depth is harmless."""
    stack: list[tuple[int, tuple[Any, ...], Any]] = [(1, (), value)]
    while stack:
        depth, path, value = stack.pop()
        if isinstance(value, (dict, list)):
            yield depth, path, value
            members = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [
                (depth + 1, (path, name), child)
                for name, child in members
                if isinstance(child, (dict, list, _Refused))
            ]
        elif isinstance(value, _Refused):
            place = _path(path)
            message = f"{path_text(place) or 'the body'}: {value.reason}"
            raise JsonTextError(message, path_text(place) or None, "number_out_of_range")


def _path(linked: tuple[Any, ...]) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    while linked:
        linked, part = linked
        parts.append(part)
    return tuple(reversed(parts))


def _check_depth(value: Any) -> None:
    for depth, path, _ in _containers(value):
        if depth > MAX_DEPTH:
            place = path_text(_path(path)[:1])
            raise _too_deep(place or None)


def _check_surrogates(value: Any) -> None:
    if isinstance(value, str) and SURROGATE.search(value):
        raise JsonTextError("the body holds half of a surrogate pair, which is no text")
    for _, path, container in _containers(value):
        members = container.items() if isinstance(container, dict) else enumerate(container)
        for name, child in members:
            if isinstance(name, str) and SURROGATE.search(name):
                raise JsonTextError("a name holds half of a surrogate pair, which is no text")
            if isinstance(child, str) and SURROGATE.search(child):
                place = path_text((*_path(path), name))
                raise JsonTextError(f"{place} holds half of a surrogate pair, which is no text", place)
