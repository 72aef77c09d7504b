"""Five codes in a byte, in blocks of 64 rows by 5 columns: 1.6 bits a weight, where 1.585 is the limit.

Rows are padded with zeros to a multiple of 64, depth to a multiple of 5. A block takes 64 bytes, byte r
belongs to row r; blocks are ordered [row_block][group of 5 columns]. The five codes w0..w4 of a row form
the balanced ternary number

    v = w0 + 3 w1 + 9 w2 + 27 w3 + 81 w4      -121 <= v <= 121, every value reached exactly once

which is stored as sign and magnitude: bit 7 is set when v < 0, bits 0 to 6 hold |v|. A kernel then looks
|v| up in a table of 122 partial sums, half the size of a table over all 243 values, and applies the sign.
The byte 0x80 (minus zero) and magnitudes above 121 never appear.
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

ROW_MULTIPLE = 64
DEPTH_MULTIPLE = 5

_POWERS = np.array([1, 3, 9, 27, 81], np.int16)
_LARGEST = 121


def _decoding_table() -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the five codes of every byte, int8 [256, 5], and whether the byte is one that `pack` writes."""
    byte = np.arange(256)
    magnitude = byte & 0x7F
    value = np.where(byte & 0x80, -magnitude, magnitude)
    digits = (value[:, None] + _LARGEST) // _POWERS % 3 - 1  # 121 = 11111 in base 3: it makes all digits 0..2
    return digits.astype(np.int8), (magnitude <= _LARGEST) & (byte != 0x80)


_CODES, _VALID = _decoding_table()


def packed_bytes(rows: int, depth: int) -> int:
    """Return how many bytes a [rows, depth] matrix takes."""
    check_shape(rows, depth)
    return round_up(rows, ROW_MULTIPLE) * round_up(depth, DEPTH_MULTIPLE) // 5


def pack(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Store codes int8 [rows, depth] in {-1, 0, 1} as uint8 [packed_bytes(rows, depth)].

    Raises:
        ParameterError: `codes` is not an int8 matrix, or holds something else.
    """
    check_codes(codes)
    matrix = padded(codes, ROW_MULTIPLE, DEPTH_MULTIPLE)
    digits = matrix.reshape(matrix.shape[0] // 64, 64, matrix.shape[1] // 5, 5)
    value = np.zeros(digits.shape[:3], np.int16)
    for position, power in enumerate(_POWERS):  # [row_block, r, group]
        value += digits[..., position] * power
    stored = (np.abs(value) | np.where(value < 0, np.int16(0x80), np.int16(0))).astype(np.uint8)
    return np.ascontiguousarray(stored.transpose(0, 2, 1)).reshape(-1)


def is_valid(packed: NDArray[np.uint8]) -> bool:
    """Say whether every byte is one that `pack` writes, in one pass over them."""
    # Comparisons rather than the table: they run at the speed of memory.
    return not any(((part & 0x7F) > _LARGEST).any() or (part == 0x80).any() for part in slices(packed))


def unpack(packed: NDArray[np.uint8], rows: int, depth: int) -> NDArray[np.int8]:
    """Read codes int8 [rows, depth] back.

    Raises:
        FormatError: the number of bytes does not fit the shape, a byte stands for no five codes, or the
            padding is
            not zero.
    """
    flat = checked_bytes(packed, rows, depth, packed_bytes(rows, depth))
    if not is_valid(flat):
        at = int(np.argmin(_VALID[flat]))
        raise FormatError(
            f"byte {at} of a five_per_byte matrix is {flat[at]:#04x}, which stands for no five codes"
        )
    blocks = flat.reshape(round_up(rows, 64) // 64, round_up(depth, 5) // 5, 64)
    matrix = _CODES[blocks.transpose(0, 2, 1)].reshape(round_up(rows, 64), round_up(depth, 5))
    check_padding(matrix, rows, depth)
    return np.ascontiguousarray(matrix[:rows, :depth])
