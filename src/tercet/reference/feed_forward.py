"""The activations of the gated feed-forward network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "gelu_tanh", "relu2", "silu"]


def relu2(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return max(x, 0)**2. Source: "Primer: Searching for Efficient Transformers", section 3."""
    positive: NDArray[np.float32] = np.maximum(x, np.float32(0))
    return positive * positive


def silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x / (1 + exp(-x)). Source: "GLU Variants Improve Transformer", where it is called Swish."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, which makes the right answer: zero
        denominator: NDArray[np.float32] = np.float32(1) + np.exp(-x)
        return x / denominator


def gelu_tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))).

    Source: "Gaussian Error Linear Units (GELUs)", section 2.
    """
    with np.errstate(over="ignore"):  # the cube may be infinite, and the tanh of that is right: 1 or -1
        inner: NDArray[np.float32] = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    share: NDArray[np.float32] = np.float32(0.5) * (np.float32(1) + np.tanh(inner))
    return x * share


ACTIVATIONS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "relu2": relu2,
    "silu": silu,
    "gelu_tanh": gelu_tanh,
}
