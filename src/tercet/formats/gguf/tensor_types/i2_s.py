"""I2_S of bitnet.cpp: two bits a weight, one float32 scale behind all of them, in one of three layouts.

A tensor of n weights takes n / 4 bytes, the scale (a multiplier), and 28 bytes that mean nothing. A byte
holds four weights, the first in its highest two bits; a field less one is the weight, and 3 is none. Which
four share a byte depends on the machine and the build that wrote the file, and the file does not say:

    canonical   x86 and the Python converters: byte j of 32 holds weights j, 32 + j, 64 + j and 96 + j of 128
    arm         the ARM quantizer: byte j of 16 holds weights j, 16 + j, 32 + j and 48 + j of 64
    rows        builds without ACT_PARALLEL: byte (r, c) holds column c of rows 4 r to 4 r + 3

Blocks follow the flat, row-major order of the weights. `tercet.formats.gguf.i2_s_layout` finds out which it
is.

Source: bitnet.cpp, `quantize_i2_s` in `ggml-bitnet-mad.cpp` and `dequantize_row_i2_s`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from tercet.errors import FormatError
from tercet.formats.gguf.tensor_types.tensor_type import Bytes, Codes, Floats, Levels, TensorType

__all__ = ["I2_S", "LAYOUTS", "I2SLayout", "I2SType"]

I2SLayout = Literal["canonical", "arm", "rows"]
LAYOUTS: tuple[I2SLayout, ...] = ("canonical", "arm", "rows")

_BLOCK_BYTES = {"canonical": 32, "arm": 16}
_SHIFTS = np.array([6, 4, 2, 0], np.uint8)
_TAIL_BYTES = 32


@dataclasses.dataclass(frozen=True)
class I2SType(TensorType):
    """The type, whose reading needs to know the layout."""

    def num_bytes(self, rows: int, depth: int) -> int | None:
        """Return how many bytes a [rows, depth] matrix takes, or None if this type cannot hold its shape."""
        return None if rows * depth % 4 else rows * depth // 4 + _TAIL_BYTES

    def fits(self, layout: I2SLayout, rows: int, depth: int) -> bool:
        """Say whether a matrix of this shape can be in this layout."""
        return rows % 4 == 0 if layout == "rows" else rows * depth % (4 * _BLOCK_BYTES[layout]) == 0

    def levels(self, data: Bytes, rows: int, depth: int, layout: I2SLayout = "canonical") -> Levels:
        """Return codes and the one scale.

        Raises:
            FormatError: the shape does not fit the layout, or a field is 3.
        """
        if not self.fits(layout, rows, depth):
            raise FormatError(f"its shape [{rows}, {depth}] does not fit the I2_S layout {layout!r}")
        packed = data[: rows * depth // 4]
        if (packed & packed >> 1 & 0x55).any():
            raise FormatError("it holds the field 3, which is no code of I2_S")
        scale = np.ascontiguousarray(data[len(packed) : len(packed) + 4]).view("<f4")[0]
        return Levels(_unpack(packed, rows, depth, layout), np.asarray(scale, np.float32))

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Return the values of a matrix in the canonical layout, float32[rows, depth]."""
        return self.levels(data, rows, depth).float32()

    def pack(self, codes: Codes, scale: float) -> Bytes:
        """Write a whole matrix in the canonical layout."""
        fields = (codes + np.int8(1)).view(np.uint8).reshape(-1, 4, 32) << _SHIFTS[:, None]
        tail = np.zeros(_TAIL_BYTES, np.uint8)
        tail[:4] = np.array([scale], "<f4").view(np.uint8)
        return np.concatenate([np.bitwise_or.reduce(fields, axis=1).reshape(-1), tail])


def _unpack(packed: Bytes, rows: int, depth: int, layout: I2SLayout) -> Codes:
    codes = np.empty((rows, depth), np.int8)
    if layout == "rows":
        blocks, fields = packed.reshape(-1, depth), codes.reshape(-1, 4, depth)
    else:
        blocks = packed.reshape(-1, _BLOCK_BYTES[layout])
        fields = codes.reshape(-1, 4, _BLOCK_BYTES[layout])
    for index, shift in enumerate(_SHIFTS):
        fields[:, index] = ((blocks >> shift) & 3).view(np.int8)
    codes -= 1
    return codes


I2_S = I2SType(36, "I2_S", 4, 1)
