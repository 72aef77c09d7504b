"""The key-value part of a GGUF file: what a value can be, and typed access that names file and key.

    uint8 .. uint64, int8 .. int64     -> int
    float32, float64                   -> float
    bool                               -> bool (a byte that is 0 or 1)
    string                             -> str (UTF-8)
    array of numbers or bools          -> read-only NumPy array, a view of the file where that is possible
    array of strings                   -> tuple of str
    array of arrays                    -> tuple of such values

A value keeps the type it had in the file, so that what is passed through is written back as it was.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError
from tercet.formats.fields import malformed

__all__ = ["NUMBER_DTYPES", "Metadata", "MetadataValue", "ValueType", "array_of", "float32", "text", "uint32"]


class ValueType(enum.IntEnum):
    """The types of values, with the numbers they have in a file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


NUMBER_DTYPES: Mapping[ValueType, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.FLOAT64: np.dtype("<f8"),
    ValueType.BOOL: np.dtype("<u1"),
}
"""How the elements of each type of fixed size lie in a file."""


@dataclasses.dataclass(frozen=True, eq=False)
class MetadataValue:
    """One value with the type it has in the file; `element` is the type of an array's elements."""

    type: ValueType
    value: Any
    element: ValueType | None = None


def uint32(value: int) -> MetadataValue:
    """Make an unsigned number, the type of counts and ids."""
    return MetadataValue(ValueType.UINT32, value)


def float32(value: float) -> MetadataValue:
    """Make a float32, the type of real settings."""
    return MetadataValue(ValueType.FLOAT32, value)


def text(value: str) -> MetadataValue:
    """Make a string."""
    return MetadataValue(ValueType.STRING, value)


def array_of(element: ValueType, values: Any) -> MetadataValue:
    """Make an array: of strings from a sequence of them, of numbers from anything NumPy takes."""
    if element is not ValueType.STRING:
        return MetadataValue(ValueType.ARRAY, np.asarray(values, NUMBER_DTYPES[element]), element)
    return MetadataValue(ValueType.ARRAY, tuple(values), element)


class Metadata(Mapping[str, MetadataValue]):
    """All values of a file, taken by typed accessors that name file and key when they fail.

    An accessor with a `default` returns it where the key is absent; without one, the key must be there.
    """

    def __init__(self, values: Mapping[str, MetadataValue], file: str | os.PathLike[str]) -> None:
        self._values = dict(values)
        self._file = file

    def __getitem__(self, key: str) -> MetadataValue:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def error(self, key: str, expected: str) -> FormatError:
        """Make the error for the value of `key`."""
        found = self._values[key].value if key in self._values else None
        return malformed(self._file, key, found, expected)

    def integer(self, key: str, lowest: int = 0, highest: int = 2**63 - 1) -> int:
        """Return a whole number within bounds."""
        value = self._scalar(key)
        if type(value) is not int or not lowest <= value <= highest:
            raise self.error(key, f"a whole number from {lowest} to {highest}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number; a float32 as the shortest decimal that means it, 1e-05 for example."""
        value = self._scalar(key)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.error(key, "a finite number")
        return float(str(np.float32(value))) if self._values[key].type is ValueType.FLOAT32 else float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self._scalar(key) if key in self or default is None else default
        if type(value) is not bool:
            raise self.error(key, "true or false")
        return value

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._scalar(key)
        if type(value) is not str:
            raise self.error(key, "a string")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        if key not in self or self._values[key].element is not ValueType.STRING:
            raise self.error(key, "an array of strings")
        strings: tuple[str, ...] = self._values[key].value
        return strings

    def integers(self, key: str) -> npt.NDArray[np.int64]:
        """Return an array of whole numbers."""
        value = self._values[key].value if key in self else None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            raise self.error(key, "an array of whole numbers")
        if value.dtype.itemsize == 8 and value.dtype.kind == "u" and value.size and int(value.max()) >= 2**63:
            raise self.error(key, "an array of whole numbers below 2^63")
        return value.astype(np.int64)

    def numbers(self, key: str) -> npt.NDArray[np.float32]:
        """Return an array of finite numbers as float32."""
        value = self._values[key].value if key in self else None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            raise self.error(key, "an array of numbers")
        with np.errstate(over="ignore"):
            single = value.astype(np.float32)
        if not np.isfinite(single).all():
            raise self.error(key, "an array of finite numbers")
        return single

    def uniform_integer(self, key: str, lowest: int = 0, highest: int = 2**63 - 1) -> int:
        """Return a whole number that a file may give once, or once for every layer if all are equal."""
        if key in self and self._values[key].type is ValueType.ARRAY:
            values = self.integers(key)
            if values.size == 0 or (values != values[0]).any() or not lowest <= int(values[0]) <= highest:
                raise self.error(key, f"one whole number from {lowest} to {highest}, equal for all layers")
            return int(values[0])
        return self.integer(key, lowest, highest)

    def _scalar(self, key: str) -> Any:
        return self._values[key].value if key in self._values else None
