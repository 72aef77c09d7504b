"""Ternary codes as transformers packs them: four rows of a matrix in the bits of one.

A matrix [rows, depth] is cut into four bands of R = rows / 4 rows; the packed matrix is uint8 [R, depth]:

    bits   7 6      5 4      3 2      1 0         each field = code + 1, so 0, 1 or 2; 3 never appears
    row    r + 3R   r + 2R   r + R    r

Source: transformers, `integrations/bitnet.py`, `pack_weights` and `unpack_weights`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ParameterError

__all__ = ["ROWS_PER_BYTE", "pack_rows", "unpack_rows"]

ROWS_PER_BYTE = 4


def pack_rows(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Pack int8 codes [rows, depth] into uint8 [rows / 4, depth].

    Raises:
        ParameterError: the number of rows is not a multiple of four, which transformers cannot load.
    """
    rows, depth = codes.shape
    if rows % ROWS_PER_BYTE:
        raise ParameterError(
            f"transformers packs matrices whose number of rows is a multiple of {ROWS_PER_BYTE}, not {rows}. "
            "Write a folder of masters instead (huggingface)."
        )
    bands = (codes + np.int8(1)).view(np.uint8).reshape(ROWS_PER_BYTE, rows // ROWS_PER_BYTE, depth)
    packed: npt.NDArray[np.uint8] = bands[0].copy()
    for band in range(1, ROWS_PER_BYTE):
        packed |= bands[band] << np.uint8(2 * band)
    return packed


def unpack_rows(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Unpack uint8 [rows / 4, depth] into int8 codes [rows, depth].

    Raises:
        FormatError: a field is 3, which is no code.
    """
    rows, depth = packed.shape
    if (packed & (packed >> 1) & 0x55).any():
        row, column = np.argwhere(packed & (packed >> 1) & 0x55)[0]
        raise FormatError(
            f"byte [{row}, {column}] is {packed[row, column]:#04x}: it holds the field 3, which is no code"
        )
    codes = np.empty((ROWS_PER_BYTE, rows, depth), np.int8)
    for band in range(ROWS_PER_BYTE):
        codes[band] = (packed >> np.uint8(2 * band)) & 3
    codes -= 1
    return codes.reshape(ROWS_PER_BYTE * rows, depth)
