"""How real weights become codes and a scale.

Means are summed in float64 and rounded to float32 once: the order of summation then practically never shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["SMALLEST_SCALE", "absmean_ternary", "sign_binary"]

SMALLEST_SCALE = np.float32(1e-5)
"""An all-zero matrix gets this scale, so that nothing divides by zero (as in BitNet's own code)."""


def absmean_ternary(weights: NDArray[np.float32]) -> TernaryTensor:
    """Round weights to {-1, 0, +1} times their mean magnitude, one scale for the tensor.

        s = max(mean |W|, 1e-5)      codes = clip(rint(W / s), -1, 1)

    Since halves go to the even zero, a code is nonzero exactly where |w| > s / 2.

    Args:
        weights: float32 [rows, depth].

    Raises:
        ParameterError: the weights are not a float32 matrix, or not finite.

    Source: "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits", equations 1 to 3.
    """
    _check(weights)
    scale = max(_mean(np.abs(weights)), SMALLEST_SCALE)
    codes = np.clip(np.rint(weights / scale), -1, 1).astype(np.int8)
    return TernaryTensor(codes, np.asarray(scale, np.float32))


def sign_binary(weights: NDArray[np.float32]) -> TernaryTensor:
    """Round weights to {-1, +1} times their mean magnitude, after taking their mean away.

        a = mean W      codes = +1 where W - a >= 0, else -1      s = max(mean |W|, 1e-5)

    Args:
        weights: float32 [rows, depth].

    Raises:
        ParameterError: the weights are not a float32 matrix, or not finite.

    Source: "BitNet: Scaling 1-bit Transformers for Large Language Models", section 2.1, with the sign of
    zero taken as +1 (the paper's -1 would make a matrix of equal weights all negative).
    """
    _check(weights)
    codes = np.where(weights - _mean(weights) >= 0, 1, -1).astype(np.int8)
    return TernaryTensor(codes, np.asarray(max(_mean(np.abs(weights)), SMALLEST_SCALE), np.float32))


def _mean(values: NDArray[np.float32]) -> np.float32:
    return np.float32(values.mean(dtype=np.float64))


def _check(weights: NDArray[np.float32]) -> None:
    if weights.dtype != np.float32 or weights.ndim != 2 or weights.size == 0:
        raise ParameterError(
            f"weights to quantize are float32 [rows, depth], not {weights.dtype} {list(weights.shape)}"
        )
    if not np.isfinite(weights).all():
        row, column = np.argwhere(~np.isfinite(weights))[0]
        raise ParameterError(
            f"weights to quantize are finite, but [{row}, {column}] is {weights[row, column]}"
        )
