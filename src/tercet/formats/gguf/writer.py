"""Writing a GGUF file in one pass and little memory.

The sizes of all tensors follow from their types and shapes, so the header can be written first and the data
streamed behind it, in as many pieces as the caller likes. The file appears under its name complete or not at
all. The same plan and the same data always give the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import ParameterError
from tercet.formats.gguf.header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_DIMENSIONS,
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    VERSION,
    aligned,
)
from tercet.formats.gguf.tensor_types import I2_S, WRITABLE_FLOATS, WRITABLE_TERNARY, TensorType
from tercet.formats.gguf.values import NUMBER_DTYPES, MetadataValue, ValueType

__all__ = ["GgufPlan", "GgufTensorPlan", "GgufWriter", "create_gguf"]


@dataclasses.dataclass(frozen=True)
class GgufTensorPlan:
    """One tensor to be written; the shape has its rows first, as in NumPy.

    Raises:
        ParameterError: there is no such type, or it cannot hold this shape.
    """

    name: str
    type: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        writable = (*WRITABLE_TERNARY, I2_S.name, *WRITABLE_FLOATS)
        if self.type not in writable:
            raise ParameterError(
                f"{self.name}: tensors are written as one of {', '.join(writable)}, not {self.type!r}"
            )
        if not 1 <= len(self.shape) <= MAX_DIMENSIONS or min(self.shape) < 1:
            raise ParameterError(f"{self.name}: a tensor has 1 to 4 dimensions, not {list(self.shape)}")
        if not self.name.isprintable() or not 1 <= len(self.name.encode()) <= MAX_NAME_BYTES:
            raise ParameterError(f"{self.name!r} cannot be the name of a tensor: it has 1 to 63 bytes")
        multiple = 128 if self.type == I2_S.name else self.tensor_type.block_weights
        if self.shape[-1] % multiple:
            raise ParameterError(
                f"{self.name} of shape {list(self.shape)} cannot be written as {self.type}, whose rows are "
                f"multiples of {multiple}"
            )

    @property
    def tensor_type(self) -> TensorType:
        """The type as the reader knows it."""
        return {**WRITABLE_TERNARY, **WRITABLE_FLOATS, I2_S.name: I2_S}[self.type]

    @property
    def num_bytes(self) -> int:
        """How many bytes the tensor takes, the padding behind it apart."""
        return self.tensor_type.num_bytes(math.prod(self.shape[:-1]), self.shape[-1]) or 0


@dataclasses.dataclass(frozen=True)
class GgufPlan:
    """Everything a file will hold, but the content of its tensors.

    Raises:
        ParameterError: two tensors have one name, or a key or an alignment is impossible.
    """

    metadata: Mapping[str, MetadataValue]
    tensors: Sequence[GgufTensorPlan]

    def __post_init__(self) -> None:
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ParameterError("two tensors of a file cannot have the same name")
        for key in self.metadata:
            if not key.isprintable() or not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
                raise ParameterError(f"{key!r} cannot be a key: it has 1 to {MAX_KEY_BYTES} bytes")
        if self.alignment < 1 or self.alignment & (self.alignment - 1):
            raise ParameterError(f"{ALIGNMENT_KEY} is a power of two, not {self.alignment}")

    @property
    def alignment(self) -> int:
        """Every tensor starts at a multiple of this."""
        return (
            int(self.metadata[ALIGNMENT_KEY].value) if ALIGNMENT_KEY in self.metadata else DEFAULT_ALIGNMENT
        )

    def header(self) -> bytes:
        """Return everything before the data of the first tensor."""
        parts = [MAGIC, struct.pack("<IQQ", VERSION, len(self.tensors), len(self.metadata))]
        for key, value in self.metadata.items():
            parts += [_string(key), _value(key, value)]
        offset = 0
        for tensor in self.tensors:
            dimensions = tensor.shape[::-1]
            parts.append(_string(tensor.name))
            parts.append(struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions))
            parts.append(struct.pack("<IQ", tensor.tensor_type.id, offset))
            offset = aligned(offset + tensor.num_bytes, self.alignment)
        written = b"".join(parts)
        return written + bytes(aligned(len(written), self.alignment) - len(written))

    @property
    def file_bytes(self) -> int:
        """How long the file will be."""
        return len(self.header()) + sum(aligned(tensor.num_bytes, self.alignment) for tensor in self.tensors)


class GgufWriter:
    """Takes the tensors of a plan, in the order of the plan. Made by `create_gguf`."""

    def __init__(self, file: BinaryIO, plan: GgufPlan) -> None:
        self._file = file
        self._plan = plan
        self._waiting = list(reversed(plan.tensors))
        self._file.write(plan.header())

    def write_tensor(self, name: str, pieces: Iterable[npt.NDArray[Any]]) -> None:
        """Write the next tensor as bytes in any number of pieces; `tercet.formats.gguf.encoding` makes them.

        Raises:
            ParameterError: it is not the next tensor of the plan, or not as long as planned.
        """
        plan = self._next(name)
        written = 0
        for piece in pieces:
            data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
            self._file.write(data)
            written += len(data)
        if written != plan.num_bytes:
            raise ParameterError(f"{name} should take {plan.num_bytes} bytes and took {written}")
        self._file.write(bytes(aligned(written, self._plan.alignment) - written))

    def skip_tensor(self, name: str) -> None:
        """Pass over the next tensor, which the file holds already; it must be open for reading and writing.

        Raises:
            ParameterError: it is not the next tensor of the plan.
        """
        self._file.seek(aligned(self._next(name).num_bytes, self._plan.alignment), os.SEEK_CUR)

    def _next(self, name: str) -> GgufTensorPlan:
        if not self._waiting or self._waiting[-1].name != name:
            expected = repr(self._waiting[-1].name) if self._waiting else "no further tensor"
            raise ParameterError(f"the plan has {expected} here, not {name!r}")
        return self._waiting.pop()

    def finish(self) -> None:
        """Raise ParameterError if a tensor of the plan is missing."""
        if self._waiting:
            raise ParameterError(
                f"{len(self._waiting)} tensors were not written, {self._waiting[-1].name!r} first"
            )


@contextlib.contextmanager
def create_gguf(path: str | os.PathLike[str], plan: GgufPlan) -> Iterator[GgufWriter]:
    """Open a writer whose file appears at `path`, complete, when the block ends without an exception.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
        ParameterError: what was written is not what was planned, or a value does not fit its type.
    """
    with atomic_write(path) as file:
        writer = GgufWriter(file, plan)
        yield writer
        writer.finish()


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: MetadataValue) -> bytes:
    return struct.pack("<I", value.type) + _content(key, value)


def _content(key: str, value: MetadataValue) -> bytes:
    if value.type is ValueType.STRING:
        return _string(value.value)
    if value.type is not ValueType.ARRAY:
        return _number(key, value)
    if value.element is None:
        raise ParameterError(f"the array {key} does not say what its elements are")
    front = struct.pack("<IQ", value.element, len(value.value))
    if value.element is ValueType.STRING:
        return front + b"".join(_string(text) for text in value.value)
    if value.element is ValueType.ARRAY:
        return front + b"".join(_content(key, item) for item in value.value)
    return front + np.ascontiguousarray(value.value).astype(NUMBER_DTYPES[value.element]).tobytes()


def _number(key: str, value: MetadataValue) -> bytes:
    dtype = NUMBER_DTYPES[value.type]
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value.value <= np.iinfo(dtype).max:
        raise ParameterError(f"{key} cannot be {value.value}: it is stored as {dtype.name}")
    return np.array([value.value], dtype).tobytes()
