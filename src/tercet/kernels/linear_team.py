"""One ternary layer at a time on threads that stay alive: for models that live in another program.

    team = LinearTeam(threads=2)
    y = team.multiply(x, PackedWeight(codes, scales))

This is the operation of the decoder's own linear layers, taken out: rounding to int8, exact product, scale,
in one call; or the same on floats. Embeddings that are ternary have theirs as well, `look_up`. The bits of y
depend neither on the threads nor on the instruction set nor on other rows of x.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.kernels.operands import operand
from tercet.kernels.packing import pack

__all__ = ["LinearTeam", "PackedWeight"]


class PackedWeight:
    """A ternary matrix, packed and ready to multiply.

    Args:
        codes: int8 [rows, depth] in {-1, 0, 1}.
        scales: float32 multipliers: [1] for the matrix, [rows], or [rows, groups] with a `group_size`.
        group_size: columns that share a scale, a multiple of 16; the last group may be shorter. None where a
            scale serves a whole row.
        packing: "two_bit" or "five_per_byte".

    Raises:
        ParameterError: another type or shape, or a code outside {-1, 0, 1}.
    """

    def __init__(
        self,
        codes: npt.NDArray[np.int8],
        scales: npt.NDArray[np.float32],
        group_size: int | None = None,
        packing: str = "two_bit",
    ) -> None:
        packed = pack(codes, packing)
        axes = "scales" if group_size is None else "rows, groups"
        floats = operand("PackedWeight", "scales", scales, np.float32, axes).reshape(-1)
        rows, depth = codes.shape
        self.matrix = _core.TernaryMatrix(packed, packing, rows, depth, floats, group_size or 0)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.matrix.nbytes


class LinearTeam:
    """Threads, kernels and scratch memory. Callers on several threads take turns.

    Args:
        threads: threads that share the rows of a matrix, the caller included.
        isa: an instruction set, None for TERCET_ISA or the best.

    Raises:
        ParameterError: there is no such number of threads.
        IsaError: this machine lacks the instruction set.
    """

    def __init__(self, threads: int = 1, isa: str | None = None) -> None:
        self._team = _core.LinearTeam(threads, isa)

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._team.threads

    def multiply(
        self, x: npt.NDArray[np.float32], weight: PackedWeight, quantize: bool = True
    ) -> npt.NDArray[np.float32]:
        """Return x @ W.T, float32 [tokens, rows], where each row of x float32 [tokens, depth] is first
        rounded to int8 by its largest magnitude, unless `quantize` is false.

        Raises:
            ParameterError: x is of another type or shape.
        """
        return self._team.multiply(
            operand("LinearTeam.multiply", "x", x, np.float32, "tokens, depth"), weight.matrix, quantize
        )

    def look_up(self, table: PackedWeight, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Return rows `ids`, int32 [tokens], of a table as float32 [tokens, depth]: codes times scales.

        Raises:
            ParameterError: ids of another type or shape, or one that is not a row of the table.
        """
        return self._team.look_up(table.matrix, operand("LinearTeam.look_up", "ids", ids, np.int32, "tokens"))
