"""RMSNorm: "Root Mean Square Layer Normalization", equation 4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rms_norm"]


def rms_norm(x: NDArray[np.float32], weight: NDArray[np.float32], epsilon: float) -> NDArray[np.float32]:
    """Return x / sqrt(mean(x**2) + epsilon) * weight for every token of x float32 [tokens, width]."""
    mean_square: NDArray[np.float32] = np.mean(np.square(x), axis=-1, keepdims=True)
    inverse_size: NDArray[np.float32] = np.float32(1) / np.sqrt(mean_square + np.float32(epsilon))
    return x * inverse_size * weight
