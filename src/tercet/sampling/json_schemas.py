"""What a JSON schema may say if answers are to keep to it: everything that will be enforced, and remarks.

JSON Schema lets a reader ignore keywords that he does not know. Somebody who writes `uniqueItems`, or
mistypes `minLength`, would then get answers that break his schema, and nobody would say so. So a schema with
a keyword that is neither enforced nor a mere remark is refused, and the message names it and where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from tercet.sampling.token_constraint import ConstraintError

__all__ = ["checked_schema", "moved_schema"]

MOST_CHARACTERS = 65_536
MOST_DEPTH = 32
MOST_PROPERTIES = 400
"""In one object: each may come next, and all of them are followed at once."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions")  # schemas by name
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_VALUES = (
    "type", "enum", "const", "$ref", "required", "minProperties", "maxProperties", "minItems", "maxItems",
    "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
_REMARKS = (
    "title", "description", "default", "example", "examples", "$comment", "$schema", "$id", "deprecated",
    "readOnly", "writeOnly", "discriminator", "contentEncoding", "contentMediaType",
)  # fmt: skip
_KNOWN = frozenset((*_NAMED, *_LISTED, *_SINGLE, *_VALUES, *_REMARKS))


def checked_schema(schema: object) -> str:
    """Return a schema as JSON text, after checking that every keyword of it is known.

    Args:
        schema: an object, true, or the text of either.

    Raises:
        ConstraintError: it is no schema, too large or too deep, refers to something outside of it, or has
            keywords that are not enforced.
    """
    text = schema if isinstance(schema, str) else _written(schema)
    if len(text) > MOST_CHARACTERS:
        raise ConstraintError(f"the schema has {len(text):,} characters, and may have {MOST_CHARACTERS:,}")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConstraintError(f"the schema is not JSON: {error}") from error
    if parsed is True:
        return "{}"
    if not isinstance(parsed, dict):
        raise ConstraintError(f"a schema is a JSON object, not {_shown(parsed)}")
    _check(parsed)
    try:
        return json.dumps(parsed, allow_nan=False)
    except ValueError as error:  # Python's reader takes NaN and Infinity, which are no JSON
        raise ConstraintError(f"the schema is not JSON: {error}") from error


def moved_schema(schema: Any, place: str) -> Any:
    """Return a checked schema as it reads inside another one, where it stands at `place` (`#/$defs/a`)."""
    if not isinstance(schema, dict):
        return schema
    moved = dict(schema)
    for name in _NAMED:
        if name in moved:
            moved[name] = {key: moved_schema(member, place) for key, member in moved[name].items()}
    for name in _LISTED:
        if name in moved:
            moved[name] = [moved_schema(member, place) for member in moved[name]]
    for name in _SINGLE:
        if name in moved:
            moved[name] = moved_schema(moved[name], place)
    if "$ref" in moved:
        moved["$ref"] = place + moved["$ref"][1:]
    return moved


def _written(schema: object) -> str:
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConstraintError(f"the schema is not JSON: {error}") from error


def _check(root: Mapping[str, Any]) -> None:
    places, references = set(), []
    waiting: list[tuple[object, str, int]] = [(root, "#", 1)]
    while waiting:
        schema, place, depth = waiting.pop()
        places.add(place)
        if depth > MOST_DEPTH:
            raise ConstraintError(f"the schema is deeper than {MOST_DEPTH} levels at {place[:200]}")
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, dict):
            raise ConstraintError(f"the schema has {_shown(schema)} at {place}, expected an object")
        if unknown := [name for name in schema if name not in _KNOWN and not _is_extension(name)]:
            raise ConstraintError(
                f"the schema has {', '.join(map(_shown, unknown[:8]))} at {place}, which cannot be enforced; "
                "leave it out, and check the answer for it yourself"
            )
        if "$ref" in schema:
            references.append((schema["$ref"], place))
        waiting += ((one, f"{place}/{step}", depth + 1) for step, one in _parts(schema, place))
    for reference, place in references:
        if not isinstance(reference, str) or unquote(reference) not in places:
            raise ConstraintError(
                f"the schema refers to {_shown(reference)} at {place}, which it does not hold"
            )


def _parts(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, object]]:
    """The schemas inside a schema, each with its place in it (a JSON pointer)."""
    for name in _NAMED:
        if name in schema:
            members = schema[name]
            if not isinstance(members, dict):
                raise ConstraintError(
                    f"the schema has {_shown(members)} as {name} at {place}, expected an object"
                )
            if len(members) > MOST_PROPERTIES:
                raise ConstraintError(
                    f"the schema has {len(members):,} {name} at {place}, and may have {MOST_PROPERTIES}"
                )
            yield from ((f"{name}/{_escaped(key)}", member) for key, member in members.items())
    for name in _LISTED:
        if name in schema:
            members = schema[name]
            if not isinstance(members, list):
                raise ConstraintError(
                    f"the schema has {_shown(members)} as {name} at {place}, expected a list"
                )
            yield from ((f"{name}/{index}", member) for index, member in enumerate(members))
    for name in _SINGLE:
        if name in schema:
            yield name, schema[name]


def _is_extension(name: str) -> bool:
    """Whether others may write this word for their own purposes. llguidance reads one of them."""
    return name.startswith("x-") and name != "x-guidance"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
