"""Ways to store the codes {-1, 0, +1} of a matrix in bytes; the same on every machine, on disk and in memory.

    two_bit          2 bits a weight: four codes in a byte
    five_per_byte    1.6 bits a weight: five codes in a byte, as a balanced ternary number

Both lay a matrix out in blocks of 64 bytes (one cache line, one wide vector register), so that a kernel can
use a mapped file in place. Both are one to one: every sequence of bytes is either the packing of exactly
one matrix of the given shape or refused with `FormatError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.quantization.packings import five_per_byte, two_bit

__all__ = ["PACKINGS", "Packing", "packing"]


class Packing(Protocol):
    """What each module of this package offers; blocks of rows may be packed one by one and joined."""

    ROW_MULTIPLE: int
    DEPTH_MULTIPLE: int

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.uint8]:
        """Store int8 codes [rows, depth] as bytes."""
        ...

    def unpack(self, packed: NDArray[np.uint8], rows: int, depth: int) -> NDArray[np.int8]:
        """Read int8 codes [rows, depth] back."""
        ...

    def is_valid(self, packed: NDArray[np.uint8]) -> bool:
        """Say whether every byte is one that `pack` can write; cheap enough to run at loading."""
        ...

    def packed_bytes(self, rows: int, depth: int) -> int:
        """Say how many bytes a matrix of this shape takes."""
        ...


PACKINGS: Mapping[str, Packing] = {"two_bit": two_bit, "five_per_byte": five_per_byte}


def packing(name: str) -> Packing:
    """Return the packing of this name.

    Raises:
        ParameterError: there is none; the message lists those that exist.
    """
    if name not in PACKINGS:
        raise ParameterError(f"there is no packing {name!r}; the packings are {', '.join(PACKINGS)}")
    return PACKINGS[name]
