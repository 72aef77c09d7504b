"""Ternary matrices times int8 activations: exact integers, whatever the instruction set and thread count.

For tests, tools and small jobs. A model runs through `tercet.kernels.decoder`, which calls the same kernels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.kernels.operands import operand

__all__ = ["MAX_DEPTH", "ternary_matmul"]

MAX_DEPTH: int = _core.MAX_DEPTH
"""The largest depth: below it no accumulator of any kernel can overflow."""


def ternary_matmul(
    packed: npt.NDArray[np.uint8],
    packing: str,
    rows: int,
    depth: int,
    activations: npt.NDArray[np.int8],
    isa: str | None = None,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Return activations @ codes.T, int32 [tokens, rows], for the packed codes [rows, depth].

    Args:
        packed: uint8 [packed_bytes(packing, rows, depth)], as `tercet.kernels.packing.pack` makes it.
        packing: "two_bit" or "five_per_byte".
        rows: rows of the matrix, that is, outputs for each token.
        depth: columns of the matrix, at most MAX_DEPTH.
        activations: int8 [tokens, depth], all 256 values allowed.
        isa: an instruction set, None for TERCET_ISA or the best.
        threads: threads that share the rows.

    Raises:
        ParameterError: operands of another type or shape; the message says what was expected and what came.
        IsaError: this machine lacks the instruction set.
    """
    return _core.ternary_matmul(
        operand("ternary_matmul", "packed", packed, np.uint8, "bytes"),
        packing,
        rows,
        depth,
        operand("ternary_matmul", "activations", activations, np.int8, "tokens, depth"),
        isa,
        threads,
    )
