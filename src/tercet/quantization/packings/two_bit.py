"""Four codes in a byte, in tiles of 16 rows by 16 columns.

Rows and depth are padded with zeros to multiples of 16. A tile takes 64 bytes; tiles are ordered
[row_tile][depth_tile]. In a tile, byte 4r + c (row r = 0..15, c = 0..3) holds four codes of row r:

    bits  7 6     5 4     3 2     1 0         each field = code + 1, so 0, 1 or 2; 3 never appears
    col   12+c    8+c     4+c     c

Field i of all 64 bytes together is then 16 rows by the four consecutive columns 4i..4i+3: what one
`vpdpbusd` multiplies by the activations 4i..4i+3 broadcast to every lane, with row r summed in 32-bit lane
r. The codes stored as 0..2 instead of -1..1 are unsigned, as that instruction wants; subtracting the sum of
the activations makes it right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.errors import FormatError
from tercet.quantization.packings.code_matrix import (
    check_codes,
    check_padding,
    check_shape,
    checked_bytes,
    padded,
    round_up,
    slices,
)

__all__ = ["DEPTH_MULTIPLE", "ROW_MULTIPLE", "is_valid", "pack", "packed_bytes", "unpack"]

ROW_MULTIPLE = 16
DEPTH_MULTIPLE = 16


def packed_bytes(rows: int, depth: int) -> int:
    """Return how many bytes a [rows, depth] matrix takes."""
    check_shape(rows, depth)
    return round_up(rows, ROW_MULTIPLE) * round_up(depth, DEPTH_MULTIPLE) // 4


def pack(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Store codes int8 [rows, depth] in {-1, 0, 1} as uint8 [packed_bytes(rows, depth)].

    Raises:
        ParameterError: `codes` is not an int8 matrix, or holds something else.
    """
    check_codes(codes)
    matrix = padded(codes, ROW_MULTIPLE, DEPTH_MULTIPLE)
    # The four bytes c = 0..3 of a field are shifted together as one uint32: no bit leaves its byte, so the
    # byte order of the machine does not matter. [row_tile, r, depth_tile, i]
    fields = np.add(matrix, np.int8(1), order="C").view(np.uint32)
    quads = fields.reshape(matrix.shape[0] // 16, 16, matrix.shape[1] // 16, 4)
    tiles = quads[..., 0] | (quads[..., 1] << 2) | (quads[..., 2] << 4) | (quads[..., 3] << 6)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1)).reshape(-1).view(np.uint8)


def is_valid(packed: NDArray[np.uint8]) -> bool:
    """Say whether no field is 3, in one pass over the bytes."""
    return not any((part & (part >> 1) & 0x55).any() for part in slices(packed))


def unpack(packed: NDArray[np.uint8], rows: int, depth: int) -> NDArray[np.int8]:
    """Read codes int8 [rows, depth] back.

    Raises:
        FormatError: the number of bytes does not fit the shape, a field is 3, or the padding is not zero.
    """
    flat = checked_bytes(packed, rows, depth, packed_bytes(rows, depth))
    if not is_valid(flat):
        at = int(np.argmax(flat & (flat >> 1) & 0x55 != 0))
        raise FormatError(
            f"byte {at} of a two_bit matrix is {flat[at]:#04x}: it holds the field 3, which is no code"
        )
    row_tiles, depth_tiles = round_up(rows, 16) // 16, round_up(depth, 16) // 16
    tiles = np.ascontiguousarray(flat).view(np.uint32).reshape(row_tiles, depth_tiles, 16).transpose(0, 2, 1)
    quads = np.empty((row_tiles, 16, depth_tiles, 4), np.uint32)
    for i in range(4):
        quads[..., i] = (tiles >> (2 * i)) & 0x03030303
    matrix = quads.view(np.int8).reshape(row_tiles * 16, depth_tiles * 16)
    matrix -= 1
    check_padding(matrix, rows, depth)
    return np.ascontiguousarray(matrix[:rows, :depth])
