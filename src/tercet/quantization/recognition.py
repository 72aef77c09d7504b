"""Seeing that floats are ternary: every weight of a row, or of a group in it, is 0, +s or -s.

Some models are published unpacked: each weight is its code times its scale, stored as a float (TriLM with a
scale per block of rows, Ternary-Bonsai with one per group of 128 columns). Rounding to the float type is
symmetric, so a group still has one magnitude, exactly, and codes and scales come back exactly, too. A
full-precision matrix never looks like this: thirty-two neighbours of the same magnitude do not happen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.errors import FormatError

__all__ = ["GROUP_SIZES", "common_group", "split_ternary"]

GROUP_SIZES = (256, 128, 64, 32)
"""Groups smaller than a row that are looked for, the largest first."""


def common_group(rows: NDArray[np.float32]) -> int | None:
    """Return how many consecutive columns share one magnitude, or None if these are no ternary weights.

    The answer is the depth where whole rows do, else the largest of `GROUP_SIZES` that divides it and fits.

    Args:
        rows: float32 [rows, depth], some rows of a matrix.
    """
    depth = int(rows.shape[1])
    for group in (depth, *(size for size in GROUP_SIZES if size < depth and depth % size == 0)):
        if _is_ternary(rows, group):
            return group
    return None


def split_ternary(rows: NDArray[np.float32], group_size: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Take weights apart into codes int8 [rows, depth] and scales float32 [rows, depth / group_size].

    A group of zeros has the scale 0.

    Raises:
        FormatError: a group has more than one magnitude.
    """
    if not _is_ternary(rows, group_size):
        bad = next(index for index, row in enumerate(rows) if not _is_ternary(row[None], group_size))
        raise FormatError(
            f"row {bad} holds several magnitudes in a group of {group_size}, while others are ternary"
        )
    scales = np.abs(rows).reshape(len(rows), -1, group_size).max(axis=-1)
    return np.sign(rows).astype(np.int8), scales


def _is_ternary(rows: NDArray[np.float32], group_size: int) -> bool:
    sizes = np.abs(rows).reshape(len(rows), -1, group_size)
    largest = sizes.max(axis=-1, keepdims=True)
    return bool(((sizes == largest) | (sizes == 0)).all()) and bool(np.isfinite(largest).all())
