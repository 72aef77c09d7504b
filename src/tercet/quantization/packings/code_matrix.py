"""The checks and the padding that every packing needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tercet.errors import FormatError, ParameterError

__all__ = ["check_codes", "check_padding", "check_shape", "checked_bytes", "padded", "round_up", "slices"]


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


def check_shape(rows: int, depth: int) -> None:
    """Raise ParameterError unless a matrix can have this shape."""
    if rows < 1 or depth < 1:
        raise ParameterError(
            f"a packed matrix has at least one row and one column, not shape [{rows}, {depth}]"
        )


def check_codes(codes: NDArray[np.int8]) -> None:
    """Raise ParameterError unless `codes` is an int8 matrix of -1, 0 and +1."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.int8 or codes.ndim != 2:
        found = (
            f"{codes.dtype} {list(codes.shape)}" if isinstance(codes, np.ndarray) else type(codes).__name__
        )
        raise ParameterError(f"ternary codes are an int8 array [rows, depth], not {found}")
    check_shape(*codes.shape)
    if codes.min() < -1 or codes.max() > 1:
        row, column = np.argwhere((codes < -1) | (codes > 1))[0]
        raise ParameterError(
            f"ternary codes are -1, 0 or 1, not {codes[row, column]} (row {row}, column {column})"
        )


def padded(codes: NDArray[np.int8], row_multiple: int, depth_multiple: int) -> NDArray[np.int8]:
    """Return the codes with zeros added below and to the right, up to the multiples."""
    rows, depth = codes.shape
    shape = (round_up(rows, row_multiple), round_up(depth, depth_multiple))
    if shape == codes.shape:
        return codes
    result = np.zeros(shape, np.int8)
    result[:rows, :depth] = codes
    return result


def checked_bytes(packed: NDArray[np.uint8], rows: int, depth: int, expected: int) -> NDArray[np.uint8]:
    """Return `packed` as a flat array; raise FormatError unless it has the `expected` number of bytes."""
    check_shape(rows, depth)
    if packed.dtype != np.uint8:
        raise ParameterError(f"packed codes are uint8, not {packed.dtype}")
    if packed.size != expected:
        raise FormatError(f"a packed [{rows}, {depth}] matrix has {expected} bytes, not {packed.size}")
    return packed.reshape(-1)


def slices(packed: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut the bytes into pieces that fit the cache, so that a look through a mapped file takes no memory."""
    flat = packed.reshape(-1)
    for start in range(0, flat.size, 2**18):
        yield flat[start : start + 2**18]


def check_padding(codes: NDArray[np.int8], rows: int, depth: int) -> None:
    """Raise FormatError unless everything outside the first `rows` and `depth` is zero."""
    if codes[rows:].any() or codes[:, depth:].any():
        raise FormatError(
            f"the padding of a packed [{rows}, {depth}] matrix is not zero: the data is damaged"
        )
