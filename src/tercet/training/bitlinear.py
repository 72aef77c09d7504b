"""BitLinear: a linear layer that computes with ternary weights and int8 activations.

    y = q8(x) · q1.58(W)ᵀ

The float32 latent weight W is what the optimizer moves; the forward pass only ever sees its ternary
projection (after the warm-up). No bias, one absmean scale a matrix, one absmax scale a token:
Ma et al., "The Era of 1-bit LLMs" (2024), section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.training.straight_through import absmax_int8, absmean_ternary, straight_through


class QuantizationStrength(nn.Module):
    """λ of the warm-up, one number in [0, 1] that all BitLinear layers of a model share.

    A buffer rather than a Python float, so that changing it costs no recompilation and it follows the model
    from device to device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer("value", torch.ones(()), persistent=False)


class BitLinear(nn.Module):
    """Ternary linear layer, [..., in_features] -> [..., out_features].

    `ternary=False` makes it an ordinary float layer: the full-precision twin of an experiment differs
    in nothing else.
    """

    def __init__(
        self, in_features: int, out_features: int, strength: QuantizationStrength, ternary: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.ternary = ternary
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` [..., in_features]."""
        if not self.ternary:
            return functional.linear(x, self.weight)
        x = x.float()
        return functional.linear(
            straight_through(x, absmax_int8(x), self.strength.value),
            straight_through(self.weight, absmean_ternary(self.weight), self.strength.value),
        )

    def extra_repr(self) -> str:
        """Shape and kind, for `print(model)`."""
        rows, depth = self.weight.shape
        return f"in_features={depth}, out_features={rows}, ternary={self.ternary}"
