"""Whether one request asks for more than it may: lengths, numbers, depths; never what a text means.

    check_text(config, "messages", 5_000)            # InvalidInputError: INVALID_INPUT, with the field
    check_schema(config, "response_format", schema)

What is refused is named with what was found and what the limit is. Nothing is cut to fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from tercet.errors import InvalidInputError
from tercet.security.config import SecurityConfig

__all__ = [
    "check_choices",
    "check_constraint",
    "check_grammar",
    "check_output",
    "check_regex",
    "check_sampling",
    "check_schema",
    "check_text",
    "check_tools",
    "text_length",
]

_NOT_TEXT = frozenset({"role", "type", "id", "tool_call_id"})


def check_text(config: SecurityConfig, field: str, characters: int) -> None:
    """Refuse a text, or all texts of a request together, that is longer than `max_input_length`."""
    _at_most(config.max_input_length, characters, field, "characters")


def check_output(config: SecurityConfig, max_tokens: int, field: str = "max_tokens") -> None:
    """Refuse a request that names more tokens for its answer than `max_output_tokens`."""
    _at_most(config.max_output_tokens, max_tokens, field, "tokens of an answer")


def check_choices(config: SecurityConfig, choices: int, field: str = "n") -> None:
    """Refuse a request for more answers than `max_choices`."""
    _at_most(config.max_choices, choices, field, "answers")


def check_sampling(config: SecurityConfig, stop: Sequence[str], logit_bias: Sized) -> None:
    """Refuse more stop strings, longer ones, or more biases than there may be."""
    _at_most(config.max_stop_sequences, len(stop), "stop", "strings")
    for text in stop:
        _at_most(config.max_stop_length, len(text), "stop", "characters in one string")
    _at_most(config.max_logit_bias, len(logit_bias), "logit_bias", "tokens")


def check_constraint(config: SecurityConfig, field: str, kind: str, value: Any) -> None:
    """Refuse a form of answers that is too large; `kind` and `value` are those of `ConstraintSpec`."""
    if kind == "json_schema":
        check_schema(config, field, value)
    elif kind == "regex":
        check_regex(config, field, value)
    elif kind == "grammar":
        check_grammar(config, field, value)


def check_schema(config: SecurityConfig, field: str, schema: Any) -> None:
    """Refuse a JSON schema (an object, or its text) that is larger or deeper than it may be.

    Its depth is looked at without recursion, before anything else reads it.
    """
    if config.max_schema_depth is not None:
        depth = _depth_of_text(schema) if isinstance(schema, str) else _depth(schema)
        _at_most(config.max_schema_depth, depth, field, "levels")
    if config.max_schema_bytes is not None:
        check_grammar(config, field, schema if isinstance(schema, str) else _json(field, schema))


def check_tools(config: SecurityConfig, tools: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tools that are together larger than a schema may be, or one with a schema that is deeper."""
    if config.max_schema_depth is not None:
        for tool in tools:
            function = tool.get("function", tool)
            schema = function.get("parameters") if isinstance(function, Mapping) else None
            _at_most(config.max_schema_depth, _depth(schema), "tools", "levels")
    if tools and config.max_schema_bytes is not None:
        check_grammar(config, "tools", _json("tools", list(tools)))


def check_grammar(config: SecurityConfig, field: str, text: str) -> None:
    """Refuse a grammar that is larger than `max_schema_bytes`."""
    if config.max_schema_bytes is not None:
        _at_most(config.max_schema_bytes, len(text.encode("utf-8", "surrogatepass")), field, "bytes")


def check_regex(config: SecurityConfig, field: str, pattern: str) -> None:
    """Refuse a regular expression that is longer than `max_regex_length`."""
    _at_most(config.max_regex_length, len(pattern), field, "characters of a regular expression")


def text_length(value: Any, with_names: bool = False) -> int:
    """Return the characters of all strings in lists and objects; `with_names` counts those of fields, too.

    What a conversation says about itself (roles, kinds, identifiers) is not counted.
    """
    found, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            found += len(one)
        elif isinstance(one, Mapping):
            rest += [inner for name, inner in one.items() if with_names or name not in _NOT_TEXT]
            found += sum(map(len, one)) if with_names else 0
        elif isinstance(one, (list, tuple)):
            rest += one
    return found


def _json(field: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{field} is no JSON value, or too deep for one; simplify it", field
        ) from error


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        inner = [one for one in level if isinstance(one, (dict, list))]
        deepest += bool(inner)
        level = [child for one in inner for child in (one.values() if isinstance(one, dict) else one)]
    return deepest


def _depth_of_text(text: str) -> int:
    """The depth of the brackets that stand outside of strings: that of the value, if it is JSON at all."""
    deepest = depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def _at_most(limit: int | None, found: int, field: str, what: str) -> None:
    if limit is not None and found > limit:
        raise InvalidInputError(f"{field} has {found} {what}, and {limit} are the most; ask for less", field)
