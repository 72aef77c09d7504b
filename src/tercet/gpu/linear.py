"""Matrices that multiply the same input, and what that input goes through on its way in.

Linear          one launch: a ternary matrix (or several, stacked), or a float matrix
LinearGroup     all matrices of an input: query, key and value; gate and up; or one alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tercet.gpu.inputs import Preparation, Prepared, hadamard, rounded
from tercet.gpu.products import float_product, head_product, ternary_product
from tercet.gpu.weights import RowWeights, TernaryWeights

__all__ = ["Linear", "LinearGroup", "LowRank", "LowRankUse", "Turn"]


@dataclass(frozen=True, eq=False)
class Turn:
    """A rotated basis: signs, then a Hadamard transform of every block."""

    signs: torch.Tensor
    block_size: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn inputs of a matrix, float32 [tokens, width]."""
        return hadamard(self.signs * x, self.block_size)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """Turn rows of a table back."""
        return self.signs * hadamard(x, self.block_size)


@dataclass(frozen=True, eq=False)
class Linear:
    """A product with one input."""

    weights: TernaryWeights | RowWeights
    rounding: str | None
    """How inputs are rounded, None for not at all."""
    norm: Preparation | None = None
    """The norm of this input alone."""
    turn: Turn | None = None

    @property
    def takes_codes(self) -> bool:
        """Whether the codes of the common preparation are its input, and no floats are needed."""
        is_plain = self.norm is None and self.turn is None
        return is_plain and self.rounding == "int8" and isinstance(self.weights, TernaryWeights)

    def __call__(self, prepared: Prepared) -> list[torch.Tensor]:
        """Return the product with each stacked matrix, float32 [tokens, rows]."""
        if self.takes_codes:
            return self._ternary(prepared)
        x = prepared.floats
        if x is None:
            raise ValueError("an input was not prepared as its matrix needs it")
        if self.norm is not None:
            prepared = self.norm(x)
            x = x if prepared.floats is None else prepared.floats
        if self.turn is not None:
            x = self.turn.forward(x)
        if isinstance(self.weights, RowWeights):
            return [head_product(self.weights, x)]
        if self.rounding is None:
            width = self.weights.padded_depth - self.weights.depth
            return self.weights.split(float_product(self.weights, torch.nn.functional.pad(x, (0, width))))
        return self._ternary(rounded(x, self.rounding, self.weights.padded_depth))

    def _ternary(self, prepared: Prepared) -> list[torch.Tensor]:
        if prepared.codes is None or prepared.scales is None or not isinstance(self.weights, TernaryWeights):
            raise ValueError("an input was not rounded as its matrix needs it")
        return self.weights.split(ternary_product(self.weights, prepared.codes, prepared.scales))


@dataclass(frozen=True, eq=False)
class LowRank:
    """What an adapter adds to one matrix: factor * B (A x)."""

    reduce: torch.Tensor
    """A, float32 [rank, depth]."""
    expand: torch.Tensor
    """B times the adapter's own scale, float32 [rows, rank]."""


@dataclass(frozen=True, eq=False)
class LowRankUse:
    """An adapter of the tokens of one sequence."""

    tokens: slice
    pairs: Mapping[str, LowRank]
    """By the names of matrices."""
    weight: float


class LinearGroup:
    """The matrices of an input.

    Args:
        names: theirs, in the order of the results.
        members: what computes them, in the same order; a member may compute several.
    """

    def __init__(self, names: Sequence[str], members: Sequence[Linear]) -> None:
        self.names = names
        self.members = members
        self.takes_codes = any(member.takes_codes for member in members)
        self.takes_floats = not all(member.takes_codes for member in members)

    def __call__(self, prepared: Prepared, uses: Sequence[LowRankUse] = ()) -> list[torch.Tensor]:
        """Return the product with each matrix, float32 [tokens, rows]; rows may be apart."""
        products = [product for member in self.members for product in member(prepared)]
        for use in uses:
            for name, product in zip(self.names, products, strict=True):
                if name in use.pairs and prepared.floats is not None:
                    pair = use.pairs[name]
                    reduced = prepared.floats[use.tokens] @ pair.reduce.T
                    product[use.tokens] += (reduced * use.weight) @ pair.expand.T
        return products
