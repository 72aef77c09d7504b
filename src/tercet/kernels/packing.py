"""Packing in C++: ternary codes to the bytes that kernels read, and back.

The layouts are drawn in cpp/include/tercet/ternary_kernels.hpp. `tercet.quantization.packings` writes and
reads the same bytes in NumPy and is the readable twin; a test holds the two together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.kernels.isa import choose_isa
from tercet.kernels.operands import operand

__all__ = ["fastest_packing", "pack", "packed_bytes", "unpack"]


def packed_bytes(packing: str, rows: int, depth: int) -> int:
    """Return how many bytes a matrix of `rows` x `depth` codes takes, padding included.

    Raises:
        ParameterError: an unknown packing or a size out of range.
    """
    return _core.packed_bytes(packing, rows, depth)


def pack(codes: npt.NDArray[np.int8], packing: str, isa: str | None = None) -> npt.NDArray[np.uint8]:
    """Return the packed bytes, uint8 [packed_bytes], of codes int8 [rows, depth] in {-1, 0, 1}.

    Raises:
        ParameterError: another type or shape, a code outside {-1, 0, 1}, or an unknown packing.
        IsaError: this machine lacks the instruction set.
    """
    return _core.pack(operand("pack", "codes", codes, np.int8, "rows, depth"), packing, isa)


def unpack(
    packed: npt.NDArray[np.uint8], packing: str, rows: int, depth: int, isa: str | None = None
) -> npt.NDArray[np.int8]:
    """Return the codes, int8 [rows, depth], of packed bytes uint8 [packed_bytes].

    Raises:
        FormatError: a byte that the packing never contains, or padding that is not zero.
        ParameterError: a size that does not fit, or an unknown packing.
        IsaError: this machine lacks the instruction set.
    """
    return _core.unpack(operand("unpack", "packed", packed, np.uint8, "bytes"), packing, rows, depth, isa)


def fastest_packing(group_scales: bool, isa: str | None = None) -> str:
    """Return the packing whose products are fastest here: a default for new files, which run anywhere.

    Memory sets the pace of decoding, so five weights a byte win where the processor takes them apart as
    fast as they come, with byte permutes. Scales for groups of columns have kernels for two_bit alone.

    Raises:
        IsaError: this machine lacks the instruction set.
    """
    permutes_bytes = choose_isa(isa)[0] in ("avx512_vbmi", "amx_int8")
    return "five_per_byte" if permutes_bytes and not group_scales else "two_bit"
