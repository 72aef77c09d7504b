"""The front of a GGUF file: counts, metadata, and where each tensor says it lies.

    4 bytes  "GGUF"        u32 version: 2 or 3
    u64 number of tensors  u64 number of metadata values
    per value:   string key, u32 type, value           string: u64 length, UTF-8
                                                       array:  u32 type, u64 length, elements
    per tensor:  string name, u32 number of dimensions, u64 each (the fastest first), u32 type, u64 offset
    zeros up to a multiple of general.alignment (32 unless it says otherwise), then the tensors' data

All little endian. Every length is checked against the bytes that are left before anything is made of it, so
the memory that a header takes is bounded by its own length.

Source: `docs/gguf.md` of ggml; the list of bad files is that of llama.cpp's `tests/test-gguf.cpp`.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.fields import malformed
from tercet.formats.gguf.values import NUMBER_DTYPES, Metadata, MetadataValue, ValueType
from tercet.formats.mapped_file import MappedFile

__all__ = [
    "ALIGNMENT_KEY",
    "DEFAULT_ALIGNMENT",
    "MAGIC",
    "MAX_DIMENSIONS",
    "MAX_NAME_BYTES",
    "VERSION",
    "Header",
    "TensorEntry",
    "aligned",
    "parse_header",
]

MAGIC = b"GGUF"
VERSION = 3
READ_VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 63
"""ggml keeps a tensor's name in 64 bytes, the last of them zero."""
MAX_KEY_BYTES = 255
MAX_NESTING = 4
MAX_ELEMENTS = 2**62

SMALLEST_VALUE_BYTES = 8 + 1 + 4 + 1
SMALLEST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """What the header says of a tensor, before anything is known about its type."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as in NumPy: the reverse of the order in the file."""
    type_id: int
    offset: int
    """From the start of the data."""


@dataclasses.dataclass(frozen=True)
class Header:
    """The parsed front of a file."""

    version: int
    metadata: Metadata
    tensors: tuple[TensorEntry, ...]
    alignment: int
    data_start: int


def aligned(position: int, alignment: int) -> int:
    """Return the next multiple of `alignment`, a power of two."""
    return -(-position // alignment) * alignment


def parse_header(file: MappedFile) -> Header:
    """Read the front of a mapped file.

    Raises:
        FormatError: the bytes are not such a header.
        UnsupportedFormatError: they are one of another version or byte order.
    """
    return _HeaderParser(file).parse()


class _HeaderParser:
    """A position in the file, and what can be read from there."""

    def __init__(self, file: MappedFile) -> None:
        self._path: Path = file.path
        self._bytes = file.view(0, file.num_bytes, "the file")
        self._buffer = self._bytes.data
        self._size = file.num_bytes
        self._position = 0

    def parse(self) -> Header:
        self._check_magic_and_version()
        num_tensors = self._count("the number of tensors", SMALLEST_TENSOR_BYTES)
        num_values = self._count("the number of metadata values", SMALLEST_VALUE_BYTES)
        values: dict[str, MetadataValue] = {}
        for index in range(num_values):
            key = self._name(f"the key of metadata value {index}", MAX_KEY_BYTES)
            if key in values:
                raise malformed(self._path, f"the key of metadata value {index}", key, "a key not yet taken")
            values[key] = self._value(key, self._value_type(key), 0)
        metadata = Metadata(values, self._path)
        alignment = self._alignment(metadata)
        entries: dict[str, TensorEntry] = {}
        for index in range(num_tensors):
            entry = self._tensor_entry(index)
            if entry.name in entries:
                raise malformed(self._path, f"the name of tensor {index}", entry.name, "a name not yet taken")
            entries[entry.name] = entry
        data_start = aligned(self._position, alignment) if entries else self._position
        return Header(self._version, metadata, tuple(entries.values()), alignment, data_start)

    def _check_magic_and_version(self) -> None:
        magic = self._take(4, "the magic bytes").tobytes()
        if magic != MAGIC:
            raise malformed(self._path, "the magic bytes", magic, f"{MAGIC!r}: this is no GGUF file")
        self._version = self._u32("the version")
        if self._version in READ_VERSIONS:
            return
        swapped = int.from_bytes(self._version.to_bytes(4, "little"), "big")
        if swapped in (1, *READ_VERSIONS):
            raise UnsupportedFormatError(
                f"{self._path} is a GGUF file for big-endian machines (version {swapped}), expected little "
                "endian. Convert it with gguf-convert-endian of the Python package gguf."
            )
        raise UnsupportedFormatError(
            f"{self._path} is of GGUF version {self._version}, expected 2 or 3. "
            "Get a newer file, or convert the model again."
        )

    def _count(self, what: str, smallest_bytes: int) -> int:
        count = self._u64(what)
        # The other count, 8 bytes, may still follow; being off by those is harmless here.
        most = (self._size - self._position) // smallest_bytes
        if count > most:
            raise malformed(self._path, what, count, f"at most {most}, which is what the file has room for")
        return count

    def _alignment(self, metadata: Metadata) -> int:
        if ALIGNMENT_KEY not in metadata:
            return DEFAULT_ALIGNMENT
        alignment = metadata.integer(ALIGNMENT_KEY)
        if (
            metadata[ALIGNMENT_KEY].type is not ValueType.UINT32
            or not 1 <= alignment <= MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            raise metadata.error(ALIGNMENT_KEY, f"a uint32 that is a power of two up to {MAX_ALIGNMENT}")
        return alignment

    def _value_type(self, key: str) -> ValueType:
        number = self._u32(f"the type of {key}")
        if number not in set(ValueType):
            raise malformed(self._path, f"the type of {key}", number, f"0 to {max(ValueType)}")
        return ValueType(number)

    def _value(self, key: str, value_type: ValueType, depth: int) -> MetadataValue:
        if value_type is ValueType.STRING:
            return MetadataValue(value_type, self._string(key))
        if value_type is ValueType.ARRAY:
            if depth == MAX_NESTING:
                raise FormatError(f"{self._path}: {key} nests arrays more than {MAX_NESTING} deep")
            return self._array(key, depth + 1)
        dtype = NUMBER_DTYPES[value_type]
        number = self._take(dtype.itemsize, key).view(dtype)[0].item()
        if value_type is ValueType.BOOL:
            if number not in (0, 1):
                raise malformed(self._path, key, number, "a bool, which is 0 or 1")
            number = bool(number)
        return MetadataValue(value_type, number)

    def _array(self, key: str, depth: int) -> MetadataValue:
        element = self._value_type(f"{key}'s elements")
        length = self._u64(f"the length of {key}")
        item_bytes = NUMBER_DTYPES[element].itemsize if element in NUMBER_DTYPES else 8
        if length > (self._size - self._position) // item_bytes:
            raise malformed(
                self._path, f"the length of {key}", length, "no more elements than the file has room for"
            )
        value: Any
        if element is ValueType.STRING:
            value = self._strings(key, length)
        elif element is ValueType.ARRAY:
            value = tuple([self._value(key, element, depth) for _ in range(length)])
        else:
            value = self._take(length * item_bytes, key).view(NUMBER_DTYPES[element])
            if element is ValueType.BOOL:
                if (value > 1).any():
                    raise malformed(self._path, key, int(value.max()), "bools, which are 0 or 1")
                value = value.view(np.bool_)
        return MetadataValue(ValueType.ARRAY, value, element)

    def _tensor_entry(self, index: int) -> TensorEntry:
        name = self._name(f"the name of tensor {index}", MAX_NAME_BYTES)
        num_dimensions = self._u32(f"the number of dimensions of {name}")
        if num_dimensions > MAX_DIMENSIONS:
            raise malformed(
                self._path,
                f"the number of dimensions of {name}",
                num_dimensions,
                f"at most {MAX_DIMENSIONS}",
            )
        dimensions = [self._u64(f"the shape of {name}") for _ in range(num_dimensions)]
        elements = 1
        for dimension in dimensions:
            elements *= dimension
        if not 1 <= elements <= MAX_ELEMENTS:  # a zero among the dimensions makes the product zero
            raise malformed(
                self._path,
                f"the shape of {name}",
                dimensions[::-1],
                "positive dimensions with a product of at most 2^62",
            )
        type_id = self._u32(f"the type of {name}")
        return TensorEntry(name, tuple(dimensions[::-1]), type_id, self._u64(f"the offset of {name}"))

    def _name(self, what: str, max_bytes: int) -> str:
        """Read a key or a name: short and printable, since messages quote it."""
        length = self._u64(what)
        if not 1 <= length <= max_bytes:
            raise malformed(self._path, f"the length of {what}", length, f"1 to {max_bytes}")
        name = self._decoded(self._take(length, what).tobytes(), what)
        if not name.isprintable():
            raise malformed(self._path, what, name, "printable characters")
        return name

    def _string(self, what: str) -> str:
        length = self._u64(what)
        return self._decoded(self._take(length, what).tobytes(), what)

    def _strings(self, what: str, count: int) -> tuple[str, ...]:
        """Read many strings. A vocabulary has hundreds of thousands, so this loop is kept short."""
        unpack, buffer, position, size = (
            struct.Struct("<Q").unpack_from,
            self._buffer,
            self._position,
            self._size,
        )
        strings = []
        for _ in range(count):
            start = position + 8
            if start > size:
                break
            position = start + unpack(buffer, position)[0]
            if position > size:
                break
            try:
                strings.append(str(buffer[start:position], "utf-8"))
            except UnicodeDecodeError as error:
                raise malformed(self._path, what, bytes(buffer[start:position]), "UTF-8") from error
        if len(strings) < count:
            raise FormatError(
                f"{self._path}: string {len(strings)} of {what} reaches past the end of the file, {size}. "
                "It is truncated or damaged; get it again."
            )
        self._position = position
        return tuple(strings)

    def _decoded(self, data: bytes, what: str) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed(self._path, what, data, "UTF-8") from error

    def _u32(self, what: str) -> int:
        self._check_room(4, what)
        (value,) = struct.unpack_from("<I", self._buffer, self._position)
        self._position += 4
        return int(value)

    def _u64(self, what: str) -> int:
        self._check_room(8, what)
        (value,) = struct.unpack_from("<Q", self._buffer, self._position)
        self._position += 8
        return int(value)

    def _take(self, num_bytes: int, what: str) -> Any:
        self._check_room(num_bytes, what)
        start = self._position
        self._position += num_bytes
        return self._bytes[start : self._position]

    def _check_room(self, num_bytes: int, what: str) -> None:
        if num_bytes > self._size - self._position:
            raise FormatError(
                f"{self._path}: {what} takes bytes {self._position} to {self._position + num_bytes}, "
                f"but the file ends at {self._size}. It is truncated or damaged; get it again."
            )
