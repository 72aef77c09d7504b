"""RMSNorm, and vectors made to have length 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["l2_normalized", "rms_norm"]


def rms_norm(x: NDArray[np.float32], weight: NDArray[np.float32], epsilon: float) -> NDArray[np.float32]:
    """Return x / sqrt(mean(x**2) + epsilon) * weight over the last axis of x float32 [..., width].

    Source: "Root Mean Square Layer Normalization", equation 4.
    """
    mean_square: NDArray[np.float32] = np.mean(np.square(x), axis=-1, keepdims=True)
    inverse_size: NDArray[np.float32] = np.float32(1) / np.sqrt(mean_square + np.float32(epsilon))
    return x * inverse_size * weight


def l2_normalized(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x / max(length of x, 1e-12) for x float32 [width]; zero stays zero."""
    length = np.float32(np.sqrt(np.sum(np.square(x))))
    return x / max(length, np.float32(1e-12))
