"""Matrices as they lie in a file, which is how the decoder takes them: nothing is copied, nothing unpacked.

The classes have the fields of their namesakes in `tercet.kernels`. A vector (the weight of a norm) is a
matrix of one row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import to_float32
from tercet.quantization import packings
from tercet.quantization.planes import planes
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["FloatMatrix", "PackedMatrix", "PlaneMatrix"]


@dataclasses.dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A ternary matrix in a packing of `tercet.quantization.packings`."""

    packing: str
    rows: int
    depth: int
    data: npt.NDArray[np.uint8]
    """The packed codes, one-dimensional."""
    scales: npt.NDArray[np.float32]
    """Multipliers, one-dimensional: one for the tensor, one per row, or one per row and group (row-major)."""

    def unpack(self) -> TernaryTensor:
        """Return codes and scales. Raises FormatError if a byte is not of the packing."""
        codes = packings.packing(self.packing).unpack(self.data, self.rows, self.depth)
        scales = self.scales
        if scales.size == 1:
            scales = scales.reshape(())
        elif scales.size != self.rows:
            scales = scales.reshape(self.rows, -1)
        return TernaryTensor(codes, scales)


@dataclasses.dataclass(frozen=True, eq=False)
class FloatMatrix:
    """A matrix of floats in one of `tercet.formats.floats.FLOAT_TYPES`."""

    type: str
    rows: int
    depth: int
    data: npt.NDArray[Any]
    """The elements as stored (bfloat16 as uint16), one-dimensional, row-major."""

    def float32(self) -> npt.NDArray[np.float32]:
        """Return the values, float32[rows, depth]."""
        return to_float32(self.data, self.type).reshape(self.rows, self.depth)


@dataclasses.dataclass(frozen=True, eq=False)
class PlaneMatrix:
    """An embedding or an output head in one of `tercet.quantization.planes.PLANES`."""

    type: str
    rows: int
    depth: int
    data: npt.NDArray[np.uint8]
    """The high plane of all rows, then the low plane, one-dimensional."""
    scales: npt.NDArray[np.float32]
    """Multipliers, one for each row."""

    def float32(self, rows: slice | npt.NDArray[np.int64] = slice(None)) -> npt.NDArray[np.float32]:
        """Return the values of all rows or some, float32 [rows, depth]. Raises as `Planes.unpack_rows`."""
        chosen = np.arange(self.rows)[rows]
        codes = planes(self.type).unpack_rows(self.data, self.rows, self.depth, chosen)
        return np.asarray(codes * self.scales[chosen][:, None], np.float32)

    def floats(self) -> FloatMatrix:
        """Return the same values as a matrix of float32."""
        return FloatMatrix("f32", self.rows, self.depth, self.float32().reshape(-1))
