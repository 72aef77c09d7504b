"""Matrices as they lie in a file, which is how the decoder takes them: nothing is copied, nothing unpacked.

Both classes have the fields of their namesakes in `tercet.kernels`. A vector (the weight of a norm) is a
matrix of one row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import to_float32
from tercet.quantization import packings
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["FloatMatrix", "PackedMatrix"]


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
