"""One ternary layer at a time on threads that stay alive: for models that live in another program.

    team = LinearTeam(threads=2)
    y = team.multiply(x, PackedWeight(codes, scales))

This is the operation of the decoder's own linear layers, taken out: rounding to int8, exact product, scale,
in one call. The bits of y depend neither on the threads nor on the instruction set nor on other rows of x.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.kernels.operands import operand
from tercet.kernels.packing import pack

__all__ = ["LinearTeam", "PackedWeight"]


class PackedWeight:
    """A ternary matrix at two bits a weight, ready to multiply.

    Args:
        codes: int8 [rows, depth] in {-1, 0, 1}.
        scales: float32, one multiplier for the matrix or one for each row.

    Raises:
        ParameterError: another type or shape, or a code outside {-1, 0, 1}.
    """

    def __init__(self, codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> None:
        packed = pack(codes, "two_bit")
        floats = operand("PackedWeight", "scales", scales, np.float32, "scales")
        rows, depth = codes.shape
        self.matrix = _core.TernaryMatrix(packed, "two_bit", rows, depth, floats)

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

    def multiply(self, x: npt.NDArray[np.float32], weight: PackedWeight) -> npt.NDArray[np.float32]:
        """Return x @ W.T, float32 [tokens, rows], where each row of x float32 [tokens, depth] is first
        rounded to int8 by its largest magnitude.

        Raises:
            ParameterError: x is of another type or shape.
        """
        return self._team.multiply(
            operand("LinearTeam.multiply", "x", x, np.float32, "tokens, depth"), weight.matrix
        )
