"""Writing one safetensors file in one pass, without holding its tensors in memory.

The header comes first and says where everything lies, which types and shapes alone decide. So a plan is made
of them before any tensor is read, and the tensors then follow one by one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES, from_float32

__all__ = ["FLOAT_DTYPES", "SafetensorsPlan", "SafetensorsWriter", "TensorSpec", "write_safetensors"]

FLOAT_DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
"""How safetensors spells the types of `tercet.formats.floats`."""
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I8": 1}
ALIGNMENT = 64


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One tensor to be written."""

    name: str
    dtype: str
    """F32, F16, BF16, U8 or I8."""
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """How long it is in the file."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


@dataclasses.dataclass(frozen=True)
class SafetensorsPlan:
    """Everything a file will hold, but the elements of its tensors."""

    tensors: Sequence[TensorSpec]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Strings for `__metadata__`; Hugging Face expects {"format": "pt"}."""

    @property
    def header(self) -> bytes:
        """The front of the file; the data then begin on a cache line."""
        header: dict[str, Any] = {"__metadata__": dict(self.metadata)} if self.metadata else {}
        end = 0
        for tensor in self.tensors:
            begin, end = end, end + tensor.num_bytes
            header[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    @property
    def file_bytes(self) -> int:
        """How long the file will be."""
        return len(self.header) + sum(tensor.num_bytes for tensor in self.tensors)


class SafetensorsWriter:
    """Takes the tensors of a plan, in the order of the plan, into a file that is open at its beginning."""

    def __init__(self, file: BinaryIO, plan: SafetensorsPlan) -> None:
        self._file = file
        self._waiting = list(reversed(plan.tensors))
        file.write(plan.header)

    def write_tensor(self, name: str, chunks: Iterable[npt.NDArray[Any]]) -> None:
        """Write the next tensor, its bytes in any number of chunks.

        Raises:
            ParameterError: it is not the next tensor of the plan, or not as long as planned.
        """
        expected = self._next(name).num_bytes
        written = 0
        for chunk in chunks:
            data = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data
            self._file.write(data)
            written += len(data)
        if written != expected:
            raise ParameterError(f"{name} should take {expected} bytes and took {written}")

    def skip_tensor(self, name: str) -> None:
        """Pass over a tensor that the file holds already."""
        self._file.seek(self._next(name).num_bytes, os.SEEK_CUR)

    def finish(self) -> None:
        """Raise ParameterError if a tensor of the plan is missing."""
        if self._waiting:
            raise ParameterError(
                f"{len(self._waiting)} tensors were not written, {self._waiting[-1].name} first"
            )

    def _next(self, name: str) -> TensorSpec:
        if not self._waiting or self._waiting[-1].name != name:
            due = self._waiting[-1].name if self._waiting else "no further tensor"
            raise ParameterError(f"{name} came where {due} was due")
        return self._waiting.pop()


def write_safetensors(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]],
    tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    float_type: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write float tensors in one type; the file appears at `path` complete or not at all.

    Args:
        path: the file.
        shapes: name -> shape of every tensor, in the order in which `tensors` brings them.
        tensors: names and float32 values, taken one at a time.
        float_type: `f32`, `f16` or `bf16`; values are rounded to it.
        metadata: strings for `__metadata__`; Hugging Face expects {"format": "pt"}.

    Raises:
        ParameterError: a tensor is missing, out of order or of another shape.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    if float_type not in FLOAT_TYPES:
        raise ParameterError(f"there is no float type {float_type!r}; the types are {', '.join(FLOAT_TYPES)}")
    dtype = FLOAT_DTYPES[float_type]
    specs = [TensorSpec(name, dtype, tuple(shape)) for name, shape in shapes.items()]
    with atomic_write(path) as file:
        writer = SafetensorsWriter(file, SafetensorsPlan(specs, metadata or {}))
        for name, values in tensors:
            if name in shapes and values.shape != tuple(shapes[name]):
                raise ParameterError(
                    f"{name} {list(values.shape)} came where {name} {list(shapes[name])} was due"
                )
            writer.write_tensor(name, [from_float32(values, float_type)])
        writer.finish()
