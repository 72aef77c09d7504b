"""Fake quantization with a straight-through gradient.

A quantizer is a staircase: its gradient is zero almost everywhere. Training keeps float "latent"
weights and lets the gradient pass the staircase as if it were the identity (Bengio et al., 2013):

    y = (1 - λ) x + λ q(x)          dy/dx = 1

λ = 1 is the model; below 1 the unquantized value is mixed in, and raising λ from 0 to 1 over the first steps
is the warm-up of quantization (Hugging Face, "1.58bit", September 2024).

The quantizers return codes and scale apart, both float32, with the formulas, the rounding rule (half to even)
and the floors of `tercet.quantization`. Products of codes are exact integers, here as in the engine: what a
rounding at a tie decides is then decided alike, and in bfloat16 no code is changed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

SCALE_FLOOR = 1e-5
INT8_LIMIT = 127.0
INT4_MEAN = math.sqrt(7.0)


def absmean_ternary(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Codes clip(round(W / s), -1, 1) and their scale s = mean |W| (BitNet b1.58, eq. 1-3).

    `weights` is [rows, depth] float32; the scale is one number for the whole matrix.
    """
    scale = weights.abs().mean().clamp(min=SCALE_FLOOR)
    return (weights / scale).round().clamp(-1.0, 1.0), scale


def sign_binary(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Codes +1 where W >= mean W, else -1, and their scale s = mean |W| (BitNet, eq. 1-3)."""
    scale = weights.abs().mean().clamp(min=SCALE_FLOOR)
    return torch.where(weights - weights.mean() >= 0, 1.0, -1.0), scale


def absmax_int8(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Codes round(127 x / γ) and their per-token scale γ/127 [..., 1], γ = max |x| over the last axis.

    Codes never leave [-127, 127], so no clipping is needed.
    """
    gamma = activations.abs().amax(dim=-1, keepdim=True).clamp(min=SCALE_FLOOR)
    return (activations * (INT8_LIMIT / gamma)).round(), gamma / INT8_LIMIT


def absmean_int4(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Codes clip(round(√7 x / β), -8, 7) and their per-token scale β/√7 [..., 1], β = mean |x|.

    BitNet v2, equation 5.
    """
    beta = activations.abs().mean(dim=-1, keepdim=True).clamp(min=SCALE_FLOOR)
    return (activations * (INT4_MEAN / beta)).round().clamp(-8.0, 7.0), beta / INT4_MEAN


def top_half(activations: Tensor) -> Tensor:
    """The larger half of each token's activations by magnitude, the others 0 (BitNet a4.8, section 2.2).

    With k = ceil(depth / 2), what is at least as large as the k-th largest is kept: equals share their fate.
    """
    magnitudes = activations.abs()
    depth = magnitudes.shape[-1]
    threshold = magnitudes.kthvalue(depth // 2 + 1, dim=-1, keepdim=True).values
    return torch.where(magnitudes >= threshold, activations, 0.0)


def hadamard(x: Tensor, block_size: int) -> Tensor:
    """H x / sqrt(block_size) for every block of the last axis, in the steps of tercet.reference.hadamard."""
    shape, distance = x.shape, 1
    while distance < block_size:
        pairs = x.reshape(*shape[:-1], shape[-1] // (2 * distance), 2, distance)
        first, second = pairs.unbind(dim=-2)
        x = torch.stack([first + second, first - second], dim=-2)
        distance *= 2
    return x.reshape(shape) * float(block_size**-0.5)


def straight_through(values: Tensor, quantized: Tensor, strength: Tensor) -> Tensor:
    """`quantized` in the forward pass, to the last bit where λ is 1; `values` in the backward pass.

    `strength` is λ in [0, 1], a tensor of one number.
    """
    mixed: Tensor = _StraightThrough.apply(values, quantized, strength)  # type: ignore[no-untyped-call]
    return mixed


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, values: Tensor, quantized: Tensor, strength: Tensor) -> Tensor:
        return torch.lerp(values, quantized, strength)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None
