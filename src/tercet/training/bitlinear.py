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


class Quantization(nn.Module):
    """What the BitLinear layers of a model quantize, and how strongly; one object for all of them.

    `ternary_weights=False` makes them ordinary float layers: the full-precision twin of an experiment differs
    in nothing else. `strength` is λ of the warm-up in [0, 1], a buffer rather than a Python float, so that
    changing it costs no recompilation and it follows the model from device to device.
    """

    def __init__(self, ternary_weights: bool = True, int8_activations: bool = True) -> None:
        super().__init__()
        self.ternary_weights = ternary_weights
        self.int8_activations = ternary_weights and int8_activations
        self.strength: Tensor
        self.register_buffer("strength", torch.ones(()), persistent=False)

    def of_weights(self, weights: Tensor) -> Tensor:
        """The weights that the forward pass sees."""
        if not self.ternary_weights:
            return weights
        return straight_through(weights, absmean_ternary(weights), self.strength)

    def of_activations(self, x: Tensor) -> Tensor:
        """The input that the forward pass sees."""
        if not self.int8_activations:
            return x
        return straight_through(x, absmax_int8(x), self.strength)


class BitLinear(nn.Module):
    """Ternary linear layer, [..., in_features] -> [..., out_features]."""

    def __init__(self, in_features: int, out_features: int, quantization: Quantization) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.quantization = quantization

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` [..., in_features]."""
        inputs = self.quantization.of_activations(x.float())
        return functional.linear(inputs, self.quantization.of_weights(self.weight))

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        rows, depth = self.weight.shape
        return f"in_features={depth}, out_features={rows}"
