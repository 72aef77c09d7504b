"""JSON from strangers, read strictly.

Python's `json` is generous: it accepts NaN, repeated keys, and lone surrogates that blow up much later.
`parse_json` accepts none of these. `Fields` then takes an object apart key by key, and every complaint says
which file, which field, what was found and what was expected.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tercet.errors import FormatError

__all__ = ["Fields", "malformed", "parse_json"]

MAX_SHOWN = 80
"""Characters of a strange value that an error message quotes."""


def malformed(file: str | os.PathLike[str], field: str, found: object, expected: str) -> FormatError:
    """Make the error for one field that is not what it should be."""
    shown = repr(found)
    if len(shown) > MAX_SHOWN:
        shown = shown[:MAX_SHOWN] + "…"
    # A hostile string must not be able to upset the terminal or the log that the message is written to.
    shown = shown.encode("utf-8", "backslashreplace").decode("utf-8")
    return FormatError(f"{os.fspath(file)}: {field} is {shown}, expected {expected}")


def parse_json(data: bytes, file: str | os.PathLike[str], what: str) -> Any:
    """Parse UTF-8 JSON, refusing what it does not have (NaN, Infinity) and what nobody means (repeated keys).

    Raises:
        FormatError: `data` is not such JSON; `what` names it in the message.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_repeated_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
        # "\ud800" passes the parser, but no such string can ever be encoded again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise FormatError(f"{os.fspath(file)}: {what} is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeError, and integers of thousands of digits
        raise FormatError(f"{os.fspath(file)}: {what} is not valid JSON: {error}") from error
    return value


def _object_without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:MAX_SHOWN]!r} appears twice in one object")
        made[key] = value
    return made


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:MAX_SHOWN]} is out of range")
    return value


class Fields:
    """One JSON object, taken apart by typed accessors that name file and field when they fail."""

    def __init__(self, value: object, file: str | os.PathLike[str], where: str) -> None:
        self._file = file
        self._where = where
        if not isinstance(value, dict):
            raise malformed(file, where, value, "a JSON object")
        self._values: dict[str, Any] = value

    def __contains__(self, key: str) -> bool:
        """Say whether the key is there with a value other than null."""
        return self._values.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def error(self, key: str, expected: str) -> FormatError:
        """Make the error for the value of `key`."""
        return malformed(self._file, self._name(key), self._values.get(key), expected)

    def only(self, known: Sequence[str]) -> None:
        """Refuse keys that are not known: whatever they ask for would be ignored."""
        for key in self._values:
            if key not in known:
                raise malformed(self._file, self._where, key, f"only the keys {', '.join(known)}")

    def integer(self, key: str, lowest: int = 0, highest: int = 2**63 - 1) -> int:
        """Return a whole number within bounds; true and 1.0 are not whole numbers."""
        value = self._values.get(key)
        if type(value) is not int or not lowest <= value <= highest:
            raise self.error(key, f"a whole number from {lowest} to {highest}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._values.get(key)
        if type(value) is int and abs(value) < 2**53:
            return float(value)
        if type(value) is not float:
            raise self.error(key, "a number")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._values.get(key)
        if type(value) is not bool:
            raise self.error(key, "true or false")
        return value

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._values.get(key)
        if type(value) is not str:
            raise self.error(key, "a string")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of the given strings."""
        value = self._values.get(key)
        if type(value) is not str or value not in choices:
            raise self.error(key, f"one of {', '.join(choices)}")
        return value

    def integers(self, key: str, length: int | None = None, lowest: int = 0) -> tuple[int, ...]:
        """Return a list of whole numbers, of the given length if one is given."""
        value = self._values.get(key)
        if (
            not isinstance(value, list)
            or not all(type(item) is int and item >= lowest for item in value)
            or (length is not None and len(value) != length)
        ):
            count = "" if length is None else f"{length} "
            raise self.error(key, f"a list of {count}whole numbers, each at least {lowest}")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._values.get(key)
        if not isinstance(value, list) or not all(type(item) is str for item in value):
            raise self.error(key, "a list of strings")
        return tuple(value)

    def one_or_more_integers(self, key: str) -> tuple[int, ...]:
        """Return what may be null, one whole number or a list of them."""
        if key not in self:
            return ()
        return self.integers(key) if self.is_list(key) else (self.integer(key),)

    def object(self, key: str) -> Fields:
        """Return the object under `key`."""
        return Fields(self._values.get(key), self._file, self._name(key))

    def objects(self, key: str) -> Mapping[str, Fields]:
        """Return an object of objects."""
        inner = self.object(key)
        return {name: inner.object(name) for name in inner._values}

    def is_list(self, key: str) -> bool:
        """Say whether the value is a list."""
        return isinstance(self._values.get(key), list)

    def objects_of_list(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        value = self._values.get(key)
        if not isinstance(value, list):
            raise self.error(key, "a list of objects")
        return [Fields(item, self._file, f"{self._name(key)}[{index}]") for index, item in enumerate(value)]

    def mapping(self, key: str) -> dict[str, Any]:
        """Return the object under `key` as it is."""
        return self.object(key)._values

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key
