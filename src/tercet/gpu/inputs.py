"""The inputs of ternary matrices on the GPU: added, gated, normalized, turned, rounded.

One kernel does what BitNet b1.58 needs (`tercet.gpu.kernels.inputs`). What only a few models have, a rotated
basis and roundings to four bits, is done by PyTorch's own operations behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton

from tercet.gpu.kernels import EXACT
from tercet.gpu.kernels.inputs import GELU_TANH, NO_ACTIVATION, RELU2, SILU, prepare_input
from tercet.quantization.activations import SMALLEST_MAGNITUDE

__all__ = ["Preparation", "Prepared", "hadamard", "rounded"]

_ACTIVATIONS = {None: NO_ACTIVATION, "relu2": RELU2, "silu": SILU, "gelu_tanh": GELU_TANH}


@dataclass(frozen=True, eq=False)
class Prepared:
    """An input, as far as it was asked for."""

    floats: torch.Tensor | None
    """float32 [tokens, width]."""
    codes: torch.Tensor | None
    """int8 [tokens, padded width], zeros behind the width."""
    scales: torch.Tensor | None
    """float32 [tokens]."""


@dataclass(frozen=True, eq=False)
class Preparation:
    """What is done to an input: `added` and `up` come with each call."""

    width: int
    weight: torch.Tensor | None = None
    """float32 [width] of a norm, None for none."""
    eps: float = 0.0
    activation: str | None = None
    keeps: bool = False
    """Whether floats are wanted."""
    rounds: bool = True
    """Whether int8 codes are wanted."""

    def __call__(
        self,
        x: torch.Tensor,
        added: torch.Tensor | None = None,
        up: torch.Tensor | None = None,
        keeps: bool = False,
    ) -> Prepared:
        """Prepare x float32 [tokens, width], whose rows may be apart; with `added` the sum is left in x."""
        num_tokens, padded = len(x), -(-self.width // 16) * 16
        keeps = keeps or self.keeps
        floats = x.new_empty((num_tokens, self.width)) if keeps else None
        codes = x.new_empty((num_tokens, padded), dtype=torch.int8) if self.rounds else None
        scales = x.new_empty(num_tokens) if self.rounds else None
        if num_tokens:
            block = triton.next_power_of_2(padded)
            prepare_input[(num_tokens,)](
                x, _or(added, x), _or(up, x), _or(self.weight, x), _or(floats, x), _or(codes, x),
                _or(scales, x),
                self.width, padded, x.stride(0), _stride(added), _stride(up), self.eps,
                BLOCK=block, ADD=added is not None, ACTIVATION=_ACTIVATIONS[self.activation].value,
                NORM=self.weight is not None, KEEP=keeps, ROUND=self.rounds,
                num_warps=max(1, min(16, block // 512)), **EXACT,
            )  # fmt: skip
        return Prepared(floats, codes, scales)


def rounded(x: torch.Tensor, rounding: str, padded_width: int) -> Prepared:
    """Round x float32 [tokens, width] as `tercet.reference.linear.rounded` does."""
    width = x.shape[1]
    if rounding == "int4":
        root = float(np.sqrt(np.float32(7)))
        mean = x.abs().mean(dim=1, dtype=torch.float64).float().clamp_min(float(SMALLEST_MAGNITUDE))
        codes = x.new_zeros((len(x), padded_width), dtype=torch.int8)
        codes[:, :width] = torch.round(x * (root / mean)[:, None]).clamp(-8, 7).to(torch.int8)
        return Prepared(None, codes, mean / root)
    if rounding == "int8_top_half":
        magnitudes = x.abs()
        # numpy.partition counts from 0, kthvalue from 1.
        threshold = magnitudes.kthvalue(width // 2 + 1, dim=1, keepdim=True).values
        x = torch.where(magnitudes >= threshold, x, 0.0)
    return Preparation(width)(x.contiguous())


def hadamard(x: torch.Tensor, block_size: int) -> torch.Tensor:
    """Return H x / sqrt(block_size) for every block of x float32 [tokens, width]."""
    tokens, width = x.shape
    distance = 1
    while distance < block_size:
        pairs = x.reshape(tokens, width // (2 * distance), 2, distance)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        x = torch.stack([first + second, first - second], dim=2).reshape(tokens, width)
        distance *= 2
    return x * float(np.float32(1 / np.sqrt(block_size)))


def _stride(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.stride(0)


def _or(tensor: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    """A pointer for an argument that is not read."""
    return other if tensor is None else tensor
