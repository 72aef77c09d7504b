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

from torch import Tensor

SCALE_FLOOR = 1e-5
INT8_LIMIT = 127.0


def absmean_ternary(weights: Tensor) -> Tensor:
    """Ternary values times their scale: s · clip(round(W / s), -1, 1), s = mean |W| (BitNet b1.58, eq. 1-3).

    `weights` is [rows, depth] float32; one scale for the whole matrix.
    """
    scale = weights.abs().mean().clamp(min=SCALE_FLOOR)
    return (weights / scale).round().clamp(-1.0, 1.0) * scale


def absmax_int8(activations: Tensor) -> Tensor:
    """Int8 values times their per-token scale: γ/127 · round(127 x / γ) with γ = max |x| over the last axis.

    The result never leaves [-127, 127] steps, so no clipping is needed.
    """
    gamma = activations.abs().amax(dim=-1, keepdim=True).clamp(min=SCALE_FLOOR)
    factor = INT8_LIMIT / gamma
    return (activations * factor).round() / factor


def straight_through(values: Tensor, quantized: Tensor, strength: float | Tensor) -> Tensor:
    """`values` in the backward pass, `quantized` (mixed in by `strength` λ in [0, 1]) in the forward pass."""
    return values + strength * (quantized - values).detach()
