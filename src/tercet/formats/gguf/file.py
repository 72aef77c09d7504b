"""An open GGUF file: its metadata, and its tensors as they lie in it.

    file = GgufFile(path)
    file.metadata.text("general.architecture")
    file.ternary("blk.0.attn_q.weight")            # codes and scales
    file.float32("token_embd.weight", slice(0, 8))    # some rows, decoded

The file is mapped and nothing is copied before it is asked for. What the file means as a model is for
`tercet.formats.gguf.model`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.gguf.header import MAGIC, parse_header
from tercet.formats.gguf.placement import place
from tercet.formats.gguf.tensor_types import (
    FLOAT_TYPE_OF_ID,
    BlockTernary,
    I2SLayout,
    I2SType,
    KernelConfig,
    Levels,
    LookupTableType,
    RowTernary,
    TensorType,
)
from tercet.formats.gguf.ternary import ternary_from_floats, ternary_from_levels
from tercet.formats.mapped_file import MappedFile
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["GgufFile", "StoredGgufTensor"]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredGgufTensor:
    """A tensor as it lies in a file; `data` is a read-only view of its bytes."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    """Rows first, as in NumPy."""
    data: npt.NDArray[np.uint8]

    @property
    def rows(self) -> int:
        """How many rows there are, all leading dimensions taken together."""
        return math.prod(self.shape[:-1])

    @property
    def depth(self) -> int:
        """How long a row is."""
        return self.shape[-1] if self.shape else 1

    @property
    def float_type(self) -> str | None:
        """What `tercet.formats.floats` calls the type, or None if it does not hold plain floats."""
        return FLOAT_TYPE_OF_ID.get(self.type.id)

    @property
    def stores_ternary(self) -> bool:
        """Whether the type itself is a ternary (or binary) one."""
        return isinstance(self.type, (BlockTernary, RowTernary, I2SType, LookupTableType))

    def elements(self) -> npt.NDArray[Any]:
        """Return plain floats as stored (bfloat16 as uint16), one-dimensional, without copying them.

        Raises:
            UnsupportedFormatError: the type is another.
        """
        if self.float_type is None:
            raise UnsupportedFormatError(
                f"tensor {self.name} is of type {self.type}, expected F32, F16 or BF16"
            )
        return self.data.view(FLOAT_TYPES[self.float_type])


class GgufFile:
    """One mapped file. Whatever its bytes are, it opens and can be read, or a FormatError is raised.

    Args:
        path: the file.
        kernels: for files with TL1 or TL2, the `kernel_config.ini` of the build that made it, parsed by
            `parse_kernel_config`.

    Raises:
        FormatError: it is truncated or malformed.
        UnsupportedFormatError: it is of another version or byte order, or holds a type that nobody has
            heard of. ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], kernels: KernelConfig | None = None) -> None:
        self._file = MappedFile(path)
        self._kernels = kernels
        self.path: Path = self._file.path
        self.num_bytes = self._file.num_bytes
        header = parse_header(self._file)
        self.version = header.version
        self.metadata = header.metadata
        self.tensors: Mapping[str, StoredGgufTensor] = {
            placed.name: StoredGgufTensor(
                placed.name,
                placed.type,
                placed.shape,
                self._file.view(placed.offset, placed.num_bytes, f"tensor {placed.name}"),
            )
            for placed in place(header, self._file)
        }

    def tensor(self, name: str) -> StoredGgufTensor:
        """Return a tensor as it lies in the file. Raises FormatError if there is none of this name."""
        if name not in self.tensors:
            raise FormatError(f"{self.path} holds no tensor {name!r}")
        return self.tensors[name]

    def levels(self, name: str, layout: I2SLayout = "canonical") -> Levels:
        """Return a tensor of a ternary type as codes and scales, as they are stored.

        Args:
            name: the tensor.
            layout: how it lies, if it is of type I2_S.

        Raises:
            FormatError: it is damaged.
            UnsupportedFormatError: it is of no ternary type, or of one that needs a kernel config.
        """
        tensor = self.tensor(name)
        kind, rows, depth = tensor.type, tensor.rows, tensor.depth
        with _Naming(self.path, name):
            if isinstance(kind, I2SType):
                return kind.levels(tensor.data, rows, depth, layout)
            if isinstance(kind, LookupTableType):
                codes = kind.codes(tensor.data, rows, depth, self._kernels)
                return Levels(codes, self._lookup_table_scale(tensor))
            if isinstance(kind, (BlockTernary, RowTernary)):
                return kind.levels(tensor.data, rows, depth)
            raise UnsupportedFormatError(f"it is of type {kind}, which is not a ternary one")

    def ternary(self, name: str, layout: I2SLayout = "canonical") -> TernaryTensor:
        """Return a matrix as ternary codes and scales: one of a ternary type, or floats that are exactly
        that.

        The scale that some files keep in a tensor of its own (`NAME.scale` beside `NAME.weight`) is
        multiplied in.

        Raises:
            FormatError: it is damaged.
            UnsupportedFormatError: it is not ternary, or of a type that this release does not read.
        """
        tensor = self.tensor(name)
        if tensor.stores_ternary:
            levels = self.levels(name, layout)
            with _Naming(self.path, name):
                found = ternary_from_levels(levels)
        else:
            values = self._decoded(tensor, None, layout).reshape(tensor.rows, tensor.depth)
            recognized = ternary_from_floats(values)
            if recognized is None:
                raise UnsupportedFormatError(
                    f"{self.path}: tensor {name} ({tensor.type}) is not ternary: its values are not "
                    "-1, 0 and +1 times a scale"
                )
            found = recognized
        factor = self._separate_scale(name)
        if factor is None:
            return found
        with np.errstate(over="ignore", invalid="ignore"):
            scales = np.asarray(found.scales * factor)
        if not np.isfinite(scales).all():
            raise FormatError(f"{self.path}: the scales of tensor {name} are too large for float32")
        return TernaryTensor(found.codes, scales)

    def float32(
        self, name: str, rows: slice | None = None, layout: I2SLayout = "canonical"
    ) -> npt.NDArray[np.float32]:
        """Return a tensor, or some rows of a matrix, as float32; a separate scale is multiplied in.

        Raises:
            FormatError: it is damaged, or holds values that are infinite or not a number.
            UnsupportedFormatError: it is of a type that this release does not read.
        """
        tensor = self.tensor(name)
        factor = self._separate_scale(name)
        with _Naming(self.path, name), np.errstate(over="ignore", invalid="ignore"):
            values = self._decoded(tensor, rows, layout)
            if factor is not None:
                values = values * factor
            if not np.isfinite(values).all():
                raise FormatError("it holds values that are infinite or not a number")
        return values.reshape(tensor.shape) if rows is None else values

    def _decoded(
        self, tensor: StoredGgufTensor, rows: slice | None, layout: I2SLayout
    ) -> npt.NDArray[np.float32]:
        """Return [rows, depth] as stored, whatever the values."""
        kind, num_rows = tensor.type, tensor.rows
        with _Naming(self.path, tensor.name), np.errstate(over="ignore", invalid="ignore"):
            if isinstance(kind, (RowTernary, I2SType, LookupTableType)):
                values = self.levels(tensor.name, layout).float32()
                return values if rows is None else values[rows]
            data = tensor.data
            if rows is not None:
                data = data.reshape(num_rows, -1)[rows].reshape(-1)
                num_rows = len(range(num_rows)[rows])
            return kind.float32(data, num_rows, tensor.depth)

    def _separate_scale(self, name: str) -> np.float32 | None:
        companion = name.removesuffix(".weight") + ".scale"
        return self._single_value(companion) if companion != name and companion in self.tensors else None

    def _lookup_table_scale(self, tensor: StoredGgufTensor) -> npt.NDArray[np.float32]:
        companion = tensor.name + "_scale"
        if companion not in self.tensors:
            raise FormatError(f"its scale, the tensor {companion}, is missing")
        return np.asarray(self._single_value(companion))

    def _single_value(self, name: str) -> np.float32:
        tensor = self.tensors[name]
        if math.prod(tensor.shape) != 1 or tensor.float_type != "f32":
            raise FormatError(
                f"{self.path}: the scale {name} is {tensor.type} {list(tensor.shape)}, expected one F32"
            )
        value = np.float32(tensor.elements()[0])
        if not np.isfinite(value):
            raise FormatError(f"{self.path}: the scale {name} is infinite or not a number")
        return value

    def release(self) -> None:
        """Give the memory back that reading has filled; what is read later is mapped again."""
        self._file.release()

    @staticmethod
    def recognizes(path: str | os.PathLike[str]) -> bool:
        """Say whether a file begins like a GGUF file; False if it cannot be read."""
        try:
            # Only a regular file is opened: a pipe would make us wait for its writer.
            if not Path(path).is_file():
                return False
            with Path(path).open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
        except (OSError, ValueError):  # ValueError: a name with a zero byte
            return False


class _Naming:
    """Puts file and tensor before the message of an error about its content."""

    def __init__(self, path: Path, name: str) -> None:
        self._prefix = f"{path}: tensor {name}: "

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, FormatError) and not str(error).startswith(self._prefix.split(": tensor")[0]):
            raise type(error)(self._prefix + str(error)) from error
