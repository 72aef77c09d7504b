"""Adapters that change codes, not weights: what they do merges into the codes exactly.

Beside the frozen codes C of a matrix stand two small matrices of codes, A [r, depth] and B [rows, r], both in
{-1, 0, +1}. Their product counts, for each weight, how many of the r pairs want it larger and how many
smaller. Where the count is clear the code moves by one step, and stays on the grid:

    D = B A                          whole numbers in [-r, r]
    T = sign(D) where |D| > threshold, else 0
    C' = clip(C + T, -1, 1)          y = q(x) · (s · C')ᵀ

The scale s stays. C' is a matrix of codes like any other, so merging is no approximation: the merged file
computes what was trained, bit for bit.

What the optimizer moves are float latents of A and B, rounded to codes in the forward pass; the gradient
passes the rounding, the threshold and the clipping as if they were the identity. Latents are kept small
(a code is `STEP` wide), so that a learning rate that suits adapters of floats suits these.

Source: Chen et al., "LoTA-QAF: Lossless Ternary Adaptation for Quantization-Aware Fine-Tuning" (2025),
arXiv:2505.18724, section 3.1. Different here: a ternary grid has no zero point, so the paper's offset factor
has no place; the paper moves codes directly by signed gradients, which needs an optimizer of its own; its
threshold is 0.75 r, of which hardly anything moves in runs as short as ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.errors import UnsupportedModelError
from tercet.quantization.weights import absmean_ternary
from tercet.training.bitlinear import BitLinear

__all__ = ["STEP", "TernaryLora", "codes_of", "default_threshold", "merged_codes", "moves"]

STEP = 1 / 64
"""How far a latent is from one code to the next."""


def default_threshold(rank: int) -> int:
    """Return the count above which a code moves: a quarter of the rank."""
    return max(1, rank // 4)


def codes_of(latents: Tensor) -> Tensor:
    """Round latents to the nearest of -1, 0 and 1 steps, halves to zero; the gradient passes as it is."""
    steps = latents / STEP
    return _passing(steps, steps.round().clamp(-1.0, 1.0))


def moves(product: Tensor, threshold: int) -> Tensor:
    """Return T, -1, 0 or 1 for each count of `product`; the gradient passes, divided by the threshold."""
    moved = torch.where(product.abs() > threshold, product.sign(), torch.zeros_like(product))
    return _passing(product / max(threshold, 1), moved)


def merged_codes(codes: Tensor, a: Tensor, b: Tensor, threshold: int) -> Tensor:
    """Return the codes that an adapter of codes makes of others: int8 [rows, depth].

    Args:
        codes: int8 [rows, depth].
        a: int8 [rank, depth].
        b: int8 [rows, rank].
        threshold: the count above which a code moves.
    """
    product = b.float() @ a.float()  # whole numbers of at most `rank`: exact
    return (codes.float() + moves(product, threshold)).clamp(-1.0, 1.0).to(torch.int8)


class TernaryLora(nn.Module):
    """A frozen `BitLinear` with an adapter of codes.

    Args:
        base_layer: the layer; its master is not touched.
        rank: how many pairs vote.
        threshold: the count above which a code moves.
        generator: draws A; B begins with zeros, so that nothing is moved yet.

    Raises:
        UnsupportedModelError: the codes of the layer have no zero: one step up from -1 is none of them.
    """

    def __init__(
        self, base_layer: BitLinear, rank: int, threshold: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if base_layer.quantization.weight_rule != "absmean":
            raise UnsupportedModelError(
                "the weights of this model are binary, and ternary adapters make zeros of some. "
                "Take the method lora or full."
            )
        self.base_layer = base_layer
        self.threshold = threshold
        base_layer.weight.requires_grad_(False)
        weight = base_layer.weight
        tensor = absmean_ternary(weight.detach().to("cpu", torch.float32).numpy())
        self.codes: Tensor
        self.scale: Tensor
        self.register_buffer("codes", torch.from_numpy(tensor.codes).to(weight.device), persistent=False)
        self.register_buffer(
            "scale", torch.tensor(float(tensor.scales), device=weight.device), persistent=False
        )
        rows, depth = weight.shape
        # Uniform in (-1.5, 1.5) steps: a third of the codes each.
        drawn = (torch.rand(rank, depth, generator=generator) - 0.5) * (3 * STEP)
        self.lora_A = nn.Parameter(drawn.to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the adapted layer to `x` [..., depth]."""
        base = self.base_layer
        inputs, input_scale = base.quantization.scaled_activations(x.float(), base.name)
        with torch.autocast(x.device.type, enabled=False):  # counts are whole numbers, whatever the precision
            moved = moves(codes_of(self.lora_B) @ codes_of(self.lora_A), self.threshold)
            wanted = self.codes.float() + moved
            adapted = _passing(wanted, wanted.clamp(-1.0, 1.0))
        y = functional.linear(inputs, adapted)
        return (y * (input_scale * self.scale)).to(y.dtype)

    def adapter(self) -> tuple[Tensor, Tensor]:
        """Return the codes of A and B, int8 on the CPU."""
        with torch.no_grad():
            a, b = (codes_of(latents).round().to("cpu", torch.int8) for latents in (self.lora_A, self.lora_B))
        return a, b

    def merged(self) -> Tensor:
        """Return the codes that this layer computes with, int8 [rows, depth] on the CPU."""
        return merged_codes(self.codes.cpu(), *self.adapter(), self.threshold)

    def extra_repr(self) -> str:
        """Rank and threshold, for `print(model)`."""
        return f"rank={self.lora_A.shape[0]}, threshold={self.threshold}"


def _passing(smooth: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` in the forward pass, to the last bit; the gradient of `smooth` in the backward pass."""
    return rounded.detach() + (smooth - smooth.detach())
