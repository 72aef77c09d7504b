"""The activations of the gated feed-forward network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "relu2", "silu"]


def relu2(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return max(x, 0)**2. Source: "Primer: Searching for Efficient Transformers", section 3."""
    positive: NDArray[np.float32] = np.maximum(x, np.float32(0))
    return positive * positive


def silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x / (1 + exp(-x)). Source: "GLU Variants Improve Transformer", where it is called Swish."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, which makes the right answer: zero
        denominator: NDArray[np.float32] = np.float32(1) + np.exp(-x)
        return x / denominator


ACTIVATIONS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "relu2": relu2,
    "silu": silu,
}
