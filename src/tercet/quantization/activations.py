"""How the inputs of a ternary matrix become small integers, one scale for each token.

A model has one rule; which roundings follow from it depends on the matrix (`input_rounding`):

    activation_rule    q, k, v, gate, up    o                 down
    int8               int8                 int8              int8        BitNet b1.58
    int4               int4                 int4              int4        BitNet v2
    int4_int8          int4                 int8_top_half     int8        BitNet a4.8
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError

__all__ = ["ROUNDINGS", "SMALLEST_MAGNITUDE", "absmax_int8", "absmean_int4", "input_rounding", "top_half"]

ROUNDINGS = ("int8", "int4", "int8_top_half")
"""What `input_rounding` returns."""

SMALLEST_MAGNITUDE = np.float32(1e-5)
"""A token whose activations are all smaller is scaled as if its largest (their mean) were this."""
_ROOT = np.sqrt(np.float32(7))


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
    _check(activations)
    largest = np.maximum(np.abs(activations).max(axis=1), SMALLEST_MAGNITUDE)
    _check_finite(largest)
    codes = np.rint(activations * (np.float32(127) / largest)[:, None])
    return codes.astype(np.int8), largest / np.float32(127)


def absmean_int4(activations: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each token's activations to int4, their mean magnitude to the root of 7; what is larger is cut.

        b = max(mean |x|, 1e-5)      codes = clip(rint(x * (sqrt 7 / b)), -8, 7)      scale = b / sqrt 7

    The mean is summed in float64 and rounded to float32 once; everything else is float32, halves to even.

    Args:
        activations: float32 [tokens, depth].

    Returns:
        Codes int8 [tokens, depth] in [-8, 7] and scales float32 [tokens].

    Raises:
        ParameterError: as `absmax_int8`.

    Source: "BitNet v2: Native 4-bit Activations with Hadamard Transformation for 1-bit LLMs", equation 5.
    """
    _check(activations)
    mean = np.abs(activations).mean(axis=1, dtype=np.float64).astype(np.float32)
    mean = np.maximum(mean, SMALLEST_MAGNITUDE)
    _check_finite(mean)
    codes = np.clip(np.rint(activations * (_ROOT / mean)[:, None]), -8, 7)
    return codes.astype(np.int8), mean / _ROOT


def top_half(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the larger half of each token's activations by magnitude; the others become 0.

    With k = ceil(depth / 2), what is at least as large as the k-th largest is kept: equals share their fate,
    so that it does not matter in which order they are looked at.

    Source: "BitNet a4.8: 4-bit Activations for 1-bit LLMs", section 2.2.
    """
    _check(activations)
    magnitudes = np.abs(activations)
    place = activations.shape[1] // 2  # of the k-th largest, when they ascend
    threshold = np.partition(magnitudes, place, axis=1)[:, place : place + 1]
    return np.where(magnitudes >= threshold, activations, np.float32(0))


def input_rounding(activation_rule: str, matrix: str) -> str:
    """Return which of `ROUNDINGS` the input of a matrix gets; `matrix` is its canonical name."""
    if activation_rule != "int4_int8":
        return activation_rule
    return {"o": "int8_top_half", "down": "int8"}.get(matrix.rpartition(".")[2], "int4")


def _check(activations: NDArray[np.float32]) -> None:
    if activations.dtype != np.float32 or activations.ndim != 2 or activations.shape[1] == 0:
        raise ParameterError(
            f"activations are float32 [tokens, depth], not {activations.dtype} {list(activations.shape)}"
        )


def _check_finite(magnitudes: NDArray[np.float32]) -> None:
    if not np.isfinite(magnitudes).all():
        raise ParameterError(
            "activations to quantize are finite, but there is a NaN or an infinity among these"
        )
