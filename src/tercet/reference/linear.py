"""BitLinear: a ternary matrix times activations, which are rounded first or left as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tercet.quantization.activations import absmax_int8, absmean_int4, top_half
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["bit_linear", "rounded"]

_EXACT_IN_FLOAT32 = 2**24 // 127
"""The sum of so many products of an int8 and a ternary code is an exact integer in float32, in any order."""


def bit_linear(
    x: NDArray[np.float32],
    weight: TernaryTensor | NDArray[np.float32],
    *,
    quantize_activations: bool,
    rounding: str = "int8",
) -> NDArray[np.float32]:
    """Return y = x @ W.T, float32 [tokens, rows], for x float32 [tokens, depth].

        (codes_x, scale_x) = rounded(x)          y = (codes_x @ codes_w.T) * (scale_x * scale_w)

    The product of codes is an exact integer. Without quantization codes_x is x and scale_x is 1; where the
    weight has a scale for each group of columns, y is the sum over the groups in order. A weight that is
    not ternary is multiplied as it is.

    Source: "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits", section 2.
    """
    if not isinstance(weight, TernaryTensor):
        return x @ np.asarray(weight, np.float32).T
    if quantize_activations:
        codes_x, scale_x = rounded(x, rounding)
        exact = np.float32 if weight.group_size <= _EXACT_IN_FLOAT32 else np.float64
        left = codes_x.astype(exact)
    else:
        left, scale_x = x, np.ones(len(x), np.float32)
    rows, depth = weight.shape
    right = weight.codes.astype(left.dtype)
    scales = weight.scales.reshape(-1, 1) if weight.scales.ndim < 2 else weight.scales  # [1 or rows, groups]
    y = np.zeros((len(x), rows), np.float32)
    for group, start in enumerate(range(0, depth, weight.group_size)):
        columns = slice(start, start + weight.group_size)
        product = (left[:, columns] @ right[:, columns].T).astype(np.float32)
        y += product * (scale_x[:, None] * scales[:, group])
    return y


def rounded(x: NDArray[np.float32], rounding: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return codes and scales of x float32 [tokens, depth]: `absmax_int8`, `absmean_int4`, or the former of
    the larger half. `rounding` is one of `tercet.quantization.activations.ROUNDINGS`."""
    if rounding == "int8_top_half":
        x = top_half(x)
    return absmean_int4(x) if rounding == "int4" else absmax_int8(x)
