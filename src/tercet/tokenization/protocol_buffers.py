"""Reading Protocol Buffers from strangers: the wire format, and nothing that trusts it.

A message is a sequence of fields: a varint `number << 3 | wire type`, then

    0  varint                 integers, booleans, enumerations
    1  8 bytes   5  4 bytes   fixed-size numbers, little endian
    2  length and bytes       text, bytes, messages, packed arrays

(https://protobuf.dev/programming-guides/encoding). A tokenizer needs a dozen fields of one schema; a
dependency that generates code from schemas would be the larger risk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tercet.errors import FormatError

__all__ = ["Message"]

MAX_FIELDS = 1 << 21
"""Twice the tokens that a vocabulary may have: a file of empty fields must not fill the memory."""

Value = int | bytes


class Message:
    """The fields of one message; the last of several values of a field counts, as the format demands.

    Args:
        data: the bytes of the message, without a length in front.
        source: what was read, for messages of errors.

    Raises:
        FormatError: they are not a message.
    """

    def __init__(self, data: bytes, source: str) -> None:
        self._source = source
        self._fields: dict[int, list[Value]] = {}
        for number, value in _fields(data, source):
            self._fields.setdefault(number, []).append(value)

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages of a repeated field."""
        for value in self._fields.get(number, []):
            yield Message(self._as_bytes(value, number), self._source)

    def message(self, number: int) -> Message:
        """Return a message; one that is not there is empty, one that comes in parts is put together."""
        parts = [self._as_bytes(value, number) for value in self._fields.get(number, [])]
        return Message(b"".join(parts), self._source)

    def data(self, number: int) -> bytes:
        """Return bytes; none if the field is not there."""
        return self._as_bytes(self._last(number, b""), number)

    def text(self, number: int, default: str = "") -> str:
        """Return a text."""
        try:
            return self._as_bytes(self._last(number, default.encode()), number).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self._source}: field {number} is not UTF-8 text: {error}") from error

    def integer(self, number: int, default: int) -> int:
        """Return an integer; negative ones are written as 2**64 less than nothing."""
        value = self._last(number, default)
        if not isinstance(value, int):
            raise FormatError(
                f"{self._source}: field {number} is {len(value)} bytes, expected a whole number"
            )
        return value - (1 << 64) if value >> 63 else value

    def flag(self, number: int, default: bool) -> bool:
        """Return a truth value."""
        return bool(self.integer(number, int(default)))

    def float32(self, number: int, default: float) -> float:
        """Return a number of single precision."""
        if number not in self._fields:
            return default
        data = self._as_bytes(self._last(number, b""), number)
        if len(data) != 4:
            raise FormatError(f"{self._source}: field {number} has {len(data)} bytes, expected a float of 4")
        return float(struct.unpack("<f", data)[0])

    def _last(self, number: int, default: Value) -> Value:
        return self._fields.get(number, [default])[-1]

    def _as_bytes(self, value: Value, number: int) -> bytes:
        if not isinstance(value, bytes):
            raise FormatError(f"{self._source}: field {number} is the number {value}, expected bytes")
        return value


def _fields(data: bytes, source: str) -> Iterator[tuple[int, Value]]:
    position = 0
    count = 0
    while position < len(data):
        start = position
        count += 1
        if count > MAX_FIELDS:
            raise FormatError(f"{source} has more than {MAX_FIELDS:,} fields in one message")
        key, position = _varint(data, position, source)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(data, position, source)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position, source)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise FormatError(f"{source}: byte {start} begins a field of the unknown wire type {wire_type}")
        if number == 0 or length > len(data) - position:
            raise FormatError(
                f"{source}: the field {number} at byte {start} claims {length:,} bytes, "
                f"but {len(data) - position:,} are left. The file is damaged or of another kind."
            )
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int, source: str) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & ((1 << 64) - 1), position + index + 1
    raise FormatError(
        f"{source}: the number at byte {position} has no end. The file is damaged or of another kind."
    )
