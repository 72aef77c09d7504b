"""Fake quantization with a straight-through gradient.

A quantizer is a staircase: its gradient is zero almost everywhere. Training keeps float "latent"
weights and lets the gradient pass the staircase as if it were the identity (Bengio et al., 2013):

    y = x + λ · stop_gradient(q(x) - x)

With λ = 1 the forward value is q(x) exactly and dy/dx = 1. λ below 1 mixes in the unquantized value;
raising it from 0 to 1 over the first steps is the warm-up of quantization (Hugging Face, "1.58bit",
September 2024). The formulas are those of `tercet.quantization`, with the same rounding rule
(half to even) and the same floors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SCALE_FLOOR = 1e-5
INT8_LIMIT = 127.0
INT4_MEAN = math.sqrt(7.0)


def absmean_ternary(weights: Tensor) -> Tensor:
    """Ternary values times their scale: s · clip(round(W / s), -1, 1), s = mean |W| (BitNet b1.58, eq. 1-3).

    `weights` is [rows, depth] float32; one scale for the whole matrix.
    """
    scale = weights.abs().mean().clamp(min=SCALE_FLOOR)
    return (weights / scale).round().clamp(-1.0, 1.0) * scale


def sign_binary(weights: Tensor) -> Tensor:
    """Signs times their scale: s · (+1 where W >= mean W, else -1), s = mean |W| (BitNet, eq. 1-3)."""
    scale = weights.abs().mean().clamp(min=SCALE_FLOOR)
    return torch.where(weights - weights.mean() >= 0, scale, -scale)


def absmax_int8(activations: Tensor) -> Tensor:
    """Int8 values times their per-token scale: γ/127 · round(127 x / γ) with γ = max |x| over the last axis.

    The result never leaves [-127, 127] steps, so no clipping is needed.
    """
    gamma = activations.abs().amax(dim=-1, keepdim=True).clamp(min=SCALE_FLOOR)
    factor = INT8_LIMIT / gamma
    return (activations * factor).round() / factor


def absmean_int4(activations: Tensor) -> Tensor:
    """Int4 values times their per-token scale: β/√7 · clip(round(√7 x / β), -8, 7), β = mean |x|.

    BitNet v2, equation 5.
    """
    beta = activations.abs().mean(dim=-1, keepdim=True).clamp(min=SCALE_FLOOR)
    return (activations * (INT4_MEAN / beta)).round().clamp(-8.0, 7.0) * (beta / INT4_MEAN)


def top_half(activations: Tensor) -> Tensor:
    """The larger half of each token's activations by magnitude, the others 0 (BitNet a4.8, section 2.2).

    With k = ceil(depth / 2), what is at least as large as the k-th largest is kept: equals share their fate.
    """
    magnitudes = activations.abs()
    depth = magnitudes.shape[-1]
    threshold = magnitudes.kthvalue(depth - (depth + 1) // 2 + 1, dim=-1, keepdim=True).values
    return torch.where(magnitudes >= threshold, activations, 0.0)


def hadamard(x: Tensor, block_size: int) -> Tensor:
    """H x / sqrt(block_size) for every block of the last axis, in the steps of tercet.reference.hadamard."""
    shape, distance = x.shape, 1
    while distance < block_size:
        pairs = x.reshape(*shape[:-1], shape[-1] // (2 * distance), 2, distance)
        first, second = pairs.unbind(dim=-2)
        x = torch.stack([first + second, first - second], dim=-2)
        distance *= 2
    return x.reshape(shape) * block_size**-0.5


def straight_through(values: Tensor, quantized: Tensor, strength: float | Tensor) -> Tensor:
    """`values` in the backward pass, `quantized` (mixed in by `strength` λ in [0, 1]) in the forward pass."""
    return values + strength * (quantized - values).detach()
