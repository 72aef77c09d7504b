"""How the inputs of a ternary matrix become int8, one scale for each token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError

__all__ = ["SMALLEST_MAGNITUDE", "absmax_int8"]

SMALLEST_MAGNITUDE = np.float32(1e-5)
"""A token whose activations are all smaller is scaled as if its largest were this."""


def absmax_int8(activations: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each token's activations to int8, its largest magnitude to 127.

        g = max(max |x|, 1e-5)      codes = rint(x * (127 / g))      scale = g / 127

    All in float32, halves to even. Codes lie in [-127, 127] and x is close to codes * scale.

    Args:
        activations: float32 [tokens, depth].

    Returns:
        Codes int8 [tokens, depth] and scales float32 [tokens].

    Raises:
        ParameterError: the activations are not a float32 matrix, or not finite.

    Source: "The Era of 1-bit LLMs", section 2, with Q_b = 127 as in the code of BitNet b1.58 2B-4T.
    """
    if activations.dtype != np.float32 or activations.ndim != 2 or activations.shape[1] == 0:
        raise ParameterError(
            f"activations are float32 [tokens, depth], not {activations.dtype} {list(activations.shape)}"
        )
    largest = np.maximum(np.abs(activations).max(axis=1), SMALLEST_MAGNITUDE)
    if not np.isfinite(largest).all():
        raise ParameterError(
            "activations to quantize are finite, but there is a NaN or an infinity among these"
        )
    codes = np.rint(activations * (np.float32(127) / largest)[:, None])
    return codes.astype(np.int8), largest / np.float32(127)
