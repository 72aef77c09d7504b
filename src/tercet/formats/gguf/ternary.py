"""From what a file stores to a `TernaryTensor`: codes in {-1, 0, +1} and as few scales as say the same.

Block formats repeat a scale in every block, whether the model has one for the tensor, one for each row or
one for each group of columns. The coarsest granularity that is exactly true is taken. A block or row with a
scale of 0, which is what writers give those without weights, says nothing about the others and never stands
in the way; the codes under it are zeros, whatever they are.

Real values that are a scale times -1, 0 or +1 throughout are such a tensor, too: models that were made
ternary are often passed on as F16 or F32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.gguf.tensor_types import Levels
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["GROUP_SIZES", "coarsest_scales", "ternary_from_floats", "ternary_from_levels"]

GROUP_SIZES = (256, 128, 64, 32)
"""Columns to a scale that are looked for in real values, if neither the tensor nor each row has one scale."""

_PORTION_WEIGHTS = 1 << 21


def ternary_from_levels(levels: Levels) -> TernaryTensor:
    """Return the same weights with the coarsest scales that are exact.

    Raises:
        FormatError: a scale is infinite or not a number.
        UnsupportedFormatError: a weight is 2, so this is no ternary matrix.
    """
    codes, scales = levels.codes, levels.scales
    if not np.isfinite(scales).all():
        raise FormatError("it has a scale that is infinite or not a number")
    if codes.max() > 1:
        raise UnsupportedFormatError(
            f"it holds {np.count_nonzero(codes > 1)} weights of +2 scales: it is of a two-bit model, "
            "not of a ternary one"
        )
    if scales.ndim == 0:
        return TernaryTensor(codes if scales != 0 else np.zeros_like(codes), scales)
    rows = len(codes)
    grouped = scales.reshape(rows, -1)
    blocks = codes.reshape(rows, grouped.shape[1], -1)
    if not grouped.all():
        blocks[grouped == 0] = 0
    return TernaryTensor(codes, coarsest_scales(grouped))


def ternary_from_floats(values: npt.NDArray[np.float32]) -> TernaryTensor | None:
    """Recognize float32[rows, depth] as codes times scales, or return None where it is not exactly that."""
    rows, depth = values.shape
    for group_size in (depth, *(size for size in GROUP_SIZES if size < depth and depth % size == 0)):
        scales = _group_scales(values, group_size)
        if scales is None:
            continue
        codes = np.empty((rows, depth), np.int8)
        for part in _row_portions(rows, depth):
            np.sign(values[part], out=codes[part], casting="unsafe")
        return TernaryTensor(codes, coarsest_scales(scales))
    return None


def _group_scales(values: npt.NDArray[np.float32], group_size: int) -> npt.NDArray[np.float32] | None:
    """Return the magnitude of each group, float32[rows, groups], or None if some group has more than one."""
    rows, depth = values.shape
    scales = np.empty((rows, depth // group_size), np.float32)
    for part in _row_portions(rows, depth):
        magnitudes = np.abs(values[part]).reshape(-1, depth // group_size, group_size)
        scales[part] = magnitudes.max(axis=2)
        if not ((magnitudes == scales[part][:, :, None]) | (magnitudes == 0)).all():
            return None  # also where a value is not a number, which equals nothing
    return scales if np.isfinite(scales).all() else None


def coarsest_scales(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Reduce scales [rows, groups] to (), or [rows], where all but the zeros agree."""
    matters = scales != 0
    row_matters = matters.any(axis=1)
    first = np.take_along_axis(scales, matters.argmax(axis=1)[:, None], axis=1)
    if not ((scales == first) | ~matters).all():
        return scales
    rows = first[:, 0]
    one = rows[row_matters.argmax()]
    return np.asarray(one) if ((rows == one) | ~row_matters).all() else rows


def _row_portions(rows: int, depth: int) -> list[slice]:
    step = max(1, _PORTION_WEIGHTS // depth)
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]
