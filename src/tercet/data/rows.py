"""A row of a data set: where it stands, and its fields when they are asked for.

A row is parsed when it is used, so that one that is only counted costs nothing. `place` names it in every
message: `data.jsonl, row 17`. Rows are counted from 1; in JSON lines, row and line are the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tercet.errors import FormatError

__all__ = ["Fields", "Row", "RowError", "UnusableRowError", "just"]

Fields = Mapping[str, Any]


class RowError(FormatError):
    """A row is not what it should be. The message lacks the place, which the caller knows."""


class UnusableRowError(RowError):
    """A sound row from which nothing can be learned; it is skipped and counted."""


@dataclass(frozen=True)
class Row:
    """One row."""

    place: str
    load: Callable[[], object]

    def fields(self) -> Fields:
        """The row's values by column; a bare string is a text.

        Raises:
            RowError: it is not a set of fields, or cannot be read.
        """
        value = self.load()
        if isinstance(value, str):
            return {"text": value}
        if not isinstance(value, Mapping):
            raise RowError(f"is {_kind(value)}, expected an object with fields")
        return value


def _kind(value: object) -> str:
    names = {list: "a list", type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def just(value: object) -> object:
    """The value of a row that has been read already."""
    return value
