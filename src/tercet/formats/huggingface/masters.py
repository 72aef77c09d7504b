"""Float masters for a matrix of which only codes and a scale are known.

A folder of masters holds floats, and whoever loads it takes the mean magnitude of a matrix for its scale. So
the floats that stand for code * scale are not that: where a share d of the codes is not zero, they have the
magnitude scale / d. Rounded to bfloat16 their mean would be off by up to 2**-9; hence two magnitudes, the
neighbours of scale / d in the type, in such proportion that the mean is right. Rounding by absmean then gives
back every code, and the scale to float32's own precision where the matrix has some thousands of weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import from_float32, to_float32

__all__ = ["master_blocks"]

BLOCK_ELEMENTS = 1 << 20


def master_blocks(
    codes: npt.NDArray[np.int8], scale: np.float32, float_type: str
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield float32 [some rows, depth], exact in `float_type`, that absmean rounds to `codes` and `scale`."""
    num_used = int(np.count_nonzero(codes))
    low, high, num_high = 0.0, 0.0, 0
    if num_used:
        wanted = float(scale) * codes.size  # what the magnitudes must add up to
        low, high = _neighbours(wanted / num_used, float_type)
        # As many of the larger magnitude as come closest, spread evenly over the weights that are used.
        num_high = int(np.clip(round((wanted - low * num_used) / (high - low)), 0, num_used))
    step = max(1, BLOCK_ELEMENTS // codes.shape[1])
    first = 0
    for start in range(0, len(codes), step):
        block = codes[start : start + step].astype(np.float32)
        used = block != 0
        order = np.arange(first, first + np.count_nonzero(used))
        first += order.size
        takes_high = (order + 1) * num_high // max(num_used, 1) > order * num_high // max(num_used, 1)
        block[used] *= np.where(takes_high, np.float32(high), np.float32(low))
        yield block


def _neighbours(value: float, float_type: str) -> tuple[float, float]:
    """Return the largest number of the type that is at most `value`, and the one after it."""
    nearest = from_float32(np.array([value], np.float32), float_type)
    bits = nearest.view(
        np.dtype(f"<u{nearest.itemsize}")
    )  # of positive floats, the order is that of the bits
    if float(to_float32(nearest, float_type)[0]) > value:
        bits = bits - 1
    pair = np.concatenate([bits, bits + 1]).astype(bits.dtype).view(nearest.dtype)
    low, high = (float(number) for number in to_float32(pair, float_type))
    return low, high
