"""Rounding a matrix to its mean magnitude: what BitNet does in training, done here without it.

    s = max(mean |W|, 1e-5)      codes = clip(rint(W / s), -1, 1)      for the tensor, each row or each group

Source: "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits", equations 1 to 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import SMALLEST_SCALE, absmean_ternary

__all__ = ["absmean"]


def absmean(weights: NDArray[np.float32], granularity: str, group: int) -> TernaryTensor:
    """Round float32 [rows, depth]; `group` columns share a scale, which is `depth` of them for a row.

    Raises:
        ParameterError: the weights are not a float32 matrix, or not finite.
    """
    whole = absmean_ternary(weights)  # checks the weights, too
    if granularity == "tensor":
        return whole
    rows, depth = weights.shape
    blocks = weights.reshape(rows, depth // group, group)
    scales = np.maximum(np.abs(blocks).mean(axis=2, dtype=np.float64).astype(np.float32), SMALLEST_SCALE)
    codes = np.clip(np.rint(blocks / scales[:, :, None]), -1, 1).astype(np.int8)
    return TernaryTensor(codes.reshape(rows, depth), scales[:, 0] if granularity == "row" else scales)
