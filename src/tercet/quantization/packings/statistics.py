"""What the bytes of a packing say about the codes in them, without unpacking.

Both packings keep a fixed number of codes in each byte, so a table of 256 entries turns a histogram of bytes
into a count of codes. A matrix of a billion weights is counted in the time it takes to read it.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from tercet.quantization.packings import packing as packing_of

__all__ = ["codes_per_byte", "count_zeros", "zeros_per_byte"]

BLOCK_BYTES = 64
_SLICE_BYTES = 1 << 20  # np.bincount widens what it counts to 8 bytes


def codes_per_byte(packing: str) -> int:
    """How many codes a byte holds."""
    form = packing_of(packing)
    return form.ROW_MULTIPLE * form.DEPTH_MULTIPLE // BLOCK_BYTES


@functools.cache
def zeros_per_byte(packing: str) -> NDArray[np.int64]:
    """How many codes of each byte are zero, int64 [256]; -1 for bytes that the packing does not have."""
    form = packing_of(packing)
    zeros = np.full(256, -1, np.int64)
    for byte in range(256):
        block = np.full(BLOCK_BYTES, byte, np.uint8)
        if form.is_valid(block):
            codes = form.unpack(block, form.ROW_MULTIPLE, form.DEPTH_MULTIPLE)
            zeros[byte] = np.count_nonzero(codes == 0) // BLOCK_BYTES
    zeros.flags.writeable = False
    return zeros


def count_zeros(packed: NDArray[np.uint8], packing: str, rows: int, depth: int) -> int:
    """Count the zero codes of a valid packed matrix [rows, depth], padding apart."""
    histogram = np.zeros(256, np.int64)
    for begin in range(0, packed.size, _SLICE_BYTES):
        histogram += np.bincount(packed[begin : begin + _SLICE_BYTES], minlength=256)
    padding = packed.size * codes_per_byte(packing) - rows * depth  # zeros, all of it
    return int(histogram @ zeros_per_byte(packing)) - padding
