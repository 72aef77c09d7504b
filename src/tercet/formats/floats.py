"""The float types that files store, and NumPy, which knows all of them but bfloat16.

A bfloat16 is the upper half of a float32, so here it travels as uint16 and becomes a float32 by a shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FLOAT_TYPES", "from_float32", "has_only_finite", "to_float32"]

FLOAT_TYPES: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
}
"""How the elements of each float type lie in memory, always little endian."""

_EXPONENT_MASKS = {"f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}


def to_float32(stored: npt.NDArray[Any], float_type: str) -> npt.NDArray[np.float32]:
    """Widen elements as they are stored to float32, exactly."""
    if float_type == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def from_float32(values: npt.NDArray[np.float32], float_type: str) -> npt.NDArray[Any]:
    """Round float32 to a storage type, half to even. What is too large for float16 becomes infinite."""
    if float_type == "bf16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        quiet_nan = (bits >> 16) | 0x0040  # rounding could carry the payload of a NaN into an infinity
        return np.where(np.isnan(values), quiet_nan, rounded).astype("<u2")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(FLOAT_TYPES[float_type])


def has_only_finite(stored: npt.NDArray[Any], float_type: str) -> bool:
    """Say whether no stored element is infinite or NaN. Works on the bits, so all types are equally fast."""
    mask = _EXPONENT_MASKS[float_type]
    bits = stored.view(np.dtype(f"<u{stored.itemsize}"))
    step = 1 << 16  # a chunk that stays in the cache
    return not any(bool(((bits[i : i + step] & mask) == mask).any()) for i in range(0, bits.size, step))
