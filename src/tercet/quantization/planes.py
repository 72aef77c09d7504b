"""Embeddings and output heads as whole numbers of 8 or 6 bits, kept in two planes.

    int8_planes    codes in [-127, 127], a scale for each row: absmax / 127
    int6_planes    codes in [-31, 31], a scale for each row: absmax / 31

A code w is stored as the unsigned number u = w + 128 (or w + 32): its upper four bits in the high plane, the
other four (or two) in the low plane. Whoever is content with four bits reads half of the memory; the whole
code is there for the rows that matter. Bytes of a matrix: the high plane of all rows, then the low plane of
all rows. Both are row-major, a row being whole chunks of 128 columns, filled up with codes of zero:

    high plane, and low plane of int8_planes    64 bytes a chunk; byte j has column j in its lower half and
                                                column 64 + j in its upper half
    low plane of int6_planes                    32 bytes a chunk; byte j has column 32 i + j in bits 2i and
                                                2i + 1, i = 0..3

The product with an input (`product`) rounds that to 16 bits, 32512 being its largest magnitude: so much finer
than the weights that it does not show, and still two int8 vectors, 256 coarse + fine, for a processor that
multiplies int8 fast. cpp/include/tercet/head_kernels.hpp reads these bytes in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tercet.errors import FormatError, ParameterError

__all__ = ["MAX_PLANE_DEPTH", "PLANES", "Planes", "planes", "product"]

CHUNK_COLUMNS = 128
FOUR_BIT_CHUNK_BYTES = 64
LARGEST_INPUT_CODE = 127 * 256
MAX_PLANE_DEPTH = 1 << 16
"""Up to here an int32 holds the product with half an input."""


@dataclasses.dataclass(frozen=True)
class Planes:
    """Codes of one width: a high plane of four bits and a low plane of the others."""

    bits: int

    @property
    def largest_code(self) -> int:
        """Codes lie between minus this and this."""
        return (1 << (self.bits - 1)) - 1

    @property
    def bias(self) -> int:
        """What is added to a code before it is stored."""
        return 1 << (self.bits - 1)

    @property
    def low_bits(self) -> int:
        """Bits of a code in the low plane."""
        return self.bits - 4

    def packed_bytes(self, rows: int, depth: int) -> int:
        """Say how many bytes the codes of a matrix of this shape take."""
        return rows * -(-depth // CHUNK_COLUMNS) * CHUNK_COLUMNS * self.bits // 8

    def quantize(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round weights float32 [rows, depth] to codes int8 [rows, depth] and scales float32 [rows].

            scale = max |w| of the row / largest_code      code = rint(w / scale)

        in float32, halves to even. A row of zeros has the scale zero.

        Raises:
            ParameterError: the weights are not a float32 matrix, or not finite.
        """
        if weights.dtype != np.float32 or weights.ndim != 2 or not weights.size:
            raise ParameterError(
                f"weights are float32 [rows, depth], not {weights.dtype} {list(weights.shape)}"
            )
        largest = np.abs(weights).max(axis=1)
        if not np.isfinite(largest).all():
            raise ParameterError(
                "weights to quantize are finite, but there is a NaN or an infinity among these"
            )
        scales = largest / np.float32(self.largest_code)
        # A scale that is no normal number could not be divided by; such a row is as good as zero.
        scales[scales < np.finfo(np.float32).tiny] = 0
        divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
        codes = np.rint(np.where(scales[:, None] > 0, weights / divisors, np.float32(0)))
        return np.clip(codes, -self.largest_code, self.largest_code).astype(np.int8), scales

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.uint8]:
        """Store int8 codes [rows, depth] as bytes, one-dimensional."""
        high, low = self.pack_planes(codes)
        return np.concatenate([high, low])

    def pack_planes(self, codes: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Do the same for some of the rows: their parts of the high and of the low plane.

        Raises:
            ParameterError: the codes are not an int8 matrix, or too large.
        """
        if codes.dtype != np.int8 or codes.ndim != 2 or not codes.size:
            raise ParameterError(f"codes are int8 [rows, depth], not {codes.dtype} {list(codes.shape)}")
        if int(codes.max()) > self.largest_code or int(codes.min()) < -self.largest_code:
            raise ParameterError(
                f"codes of {self.bits} bits lie in [-{self.largest_code}, {self.largest_code}]"
            )
        rows, depth = codes.shape
        chunks = -(-depth // CHUNK_COLUMNS)
        stored = np.full((rows, chunks * CHUNK_COLUMNS), self.bias, np.uint8)
        stored[:, :depth] = (codes.astype(np.int16) + self.bias).astype(np.uint8)
        mask = np.uint8((1 << self.low_bits) - 1)
        return _packed(stored >> np.uint8(self.low_bits), 4), _packed(stored & mask, self.low_bits)

    def unpack(self, packed: NDArray[np.uint8], rows: int, depth: int) -> NDArray[np.int8]:
        """Read int8 codes [rows, depth] back.

        Raises:
            FormatError: the bytes are too many or too few, or no honest packing.
        """
        return self.unpack_rows(packed, rows, depth, np.arange(rows))

    def unpack_rows(
        self, packed: NDArray[np.uint8], rows: int, depth: int, chosen: NDArray[np.int64]
    ) -> NDArray[np.int8]:
        """Read the codes int8 [chosen, depth] of some of the rows. Raises as `unpack` does."""
        if packed.size != self.packed_bytes(rows, depth):
            raise FormatError(
                f"a matrix of shape [{rows}, {depth}] has {self.packed_bytes(rows, depth)} bytes in "
                f"{self.bits}-bit planes, not {packed.size}"
            )
        high_bytes = self.high_bytes(rows, depth)
        high = _unpacked(packed[:high_bytes].reshape(rows, -1)[chosen], 4)
        low = _unpacked(packed[high_bytes:].reshape(rows, -1)[chosen], self.low_bits)
        stored = (high << np.uint8(self.low_bits)) | low
        if not stored.all() or (stored[:, depth:] != self.bias).any():
            raise FormatError(f"{self.bits}-bit planes hold a code that they do not have")
        return (stored[:, :depth].astype(np.int16) - self.bias).astype(np.int8)

    def is_valid(self, packed: NDArray[np.uint8], rows: int, depth: int) -> bool:
        """Say whether `pack` can have written these bytes; looks at a few rows at a time."""
        step = max(1, (1 << 20) // depth)
        try:
            for start in range(0, rows, step):
                self.unpack_rows(packed, rows, depth, np.arange(start, min(start + step, rows)))
        except FormatError:
            return False
        return True

    def high_bytes(self, rows: int, depth: int) -> int:
        """Say where the low plane of a matrix of this shape begins."""
        return rows * -(-depth // CHUNK_COLUMNS) * FOUR_BIT_CHUNK_BYTES


PLANES: Mapping[str, Planes] = {"int8_planes": Planes(8), "int6_planes": Planes(6)}


def planes(name: str) -> Planes:
    """Return the planes of this name.

    Raises:
        ParameterError: there are none; the message lists those that exist.
    """
    if name not in PLANES:
        raise ParameterError(f"there are no planes {name!r}, only {', '.join(PLANES)}")
    return PLANES[name]


def product(
    codes: NDArray[np.int8], scales: NDArray[np.float32], inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply rows with inputs as the core does, to the last bit.

        A = rint(x * (32512 / max |x|))      y = float32(sum of w A) * (scale of the row * (max |x| / 32512))

    The sum is exact, everything else float32.

    Args:
        codes: int8 [rows, depth].
        scales: float32 [rows].
        inputs: float32 [tokens, depth], finite.

    Returns:
        float32 [tokens, rows].
    """
    largest = np.abs(inputs).max(axis=1)
    is_zero = largest <= np.float32(1e-30)
    factors = np.float32(LARGEST_INPUT_CODE) / np.where(is_zero, np.float32(1), largest)
    rounded = np.rint(inputs * np.where(is_zero, np.float32(0), factors)[:, None]).astype(np.float64)
    sums = rounded @ codes.T.astype(np.float64)  # exact: below 2**53
    multipliers = scales[None, :] * (largest / np.float32(LARGEST_INPUT_CODE))[:, None]
    return np.asarray(sums.astype(np.float32) * multipliers, np.float32)


def _packed(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack values [rows, chunks * 128] of a few bits into the bytes of a plane."""
    fields = values.reshape(len(values), -1, 8 // bits, CHUNK_COLUMNS * bits // 8)
    joined = fields[:, :, 0].copy()
    for i in range(1, 8 // bits):
        joined |= fields[:, :, i] << np.uint8(i * bits)
    return joined.reshape(-1)


def _unpacked(plane: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Undo `_packed` for rows uint8 [rows, bytes]: values [rows, chunks * 128]."""
    chunks = plane.reshape(len(plane), -1, 1, CHUNK_COLUMNS * bits // 8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
    values: NDArray[np.uint8] = (chunks >> shifts) & np.uint8((1 << bits) - 1)
    return values.reshape(len(plane), -1)
