"""A matrix of codes in {-1, 0, +1} and the scales that make real weights of them."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.quantization.packings.code_matrix import check_codes

__all__ = ["Granularity", "TernaryTensor"]

Granularity = Literal["tensor", "row", "group"]


@dataclasses.dataclass(frozen=True, eq=False)
class TernaryTensor:
    """Weights `codes * scales` of shape [rows, depth], where depth is the axis that a product sums over.

    The shape of `scales` says how far one scale reaches: () the whole tensor, [rows] one row, [rows,
    groups] a group of depth / groups consecutive columns. Codes are {-1, +1} for binary models, which are
    the same thing without zeros.

    Raises:
        ParameterError: codes or scales are of another type or shape, or a scale is not finite.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    def __post_init__(self) -> None:
        check_codes(self.codes)
        scales = np.asarray(self.scales)
        rows, depth = self.codes.shape
        fits = {0: True, 1: scales.shape == (rows,)}.get(
            scales.ndim,
            scales.ndim == 2
            and scales.shape[0] == rows
            and scales.shape[1] > 0
            and depth % scales.shape[1] == 0,
        )
        if scales.dtype != np.float32 or not fits:
            raise ParameterError(
                f"the scales of a [{rows}, {depth}] tensor are float32 of shape [], [{rows}] or "
                f"[{rows}, groups] with groups dividing {depth}, not {scales.dtype} {list(scales.shape)}"
            )
        if not np.isfinite(scales).all():
            raise ParameterError("a scale is not finite: the weights that it was made from are damaged")
        object.__setattr__(self, "scales", scales)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, depth)."""
        rows, depth = self.codes.shape
        return rows, depth

    @property
    def granularity(self) -> Granularity:
        """How far one scale reaches."""
        granularities: tuple[Granularity, ...] = ("tensor", "row", "group")
        return granularities[self.scales.ndim]

    @property
    def group_size(self) -> int:
        """How many consecutive columns share a scale: depth, unless the granularity is `group`."""
        return self.shape[1] // (self.scales.shape[1] if self.scales.ndim == 2 else 1)

    def dequantize(self) -> NDArray[np.float32]:
        """Return the real weights, float32 [rows, depth]; the product is exact."""
        rows, depth = self.shape
        grouped = self.codes.astype(np.float32).reshape(rows, depth // self.group_size, self.group_size)
        scales = self.scales.reshape({0: (1, 1, 1), 1: (rows, 1, 1)}.get(self.scales.ndim, (rows, -1, 1)))
        return (grouped * scales).reshape(rows, depth)
