"""What it takes to describe one ggml type: how many bytes a matrix needs, and how to read them.

A matrix is [rows, depth]; its rows follow one another, and depth is the axis that a product sums over. Most
types cut each row into blocks of equal length, with a scale in every block. The codecs of this package are
functions from blocks to values, vectorized over the blocks; the classes here cut a matrix up for them, in
portions that stay small whatever the matrix, and put the results together.

Ternary types are read as `Levels`: whole numbers and the factors to multiply them with. Most are -1, 0 and
+1. The two-bit types can also say 2, and a file that does so is a two-bit model and no ternary one; that is
for `tercet.formats.gguf.ternary` to refuse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import UnsupportedFormatError

__all__ = [
    "BlockFloats",
    "BlockTernary",
    "Bytes",
    "Codes",
    "Floats",
    "Levels",
    "RowTernary",
    "TensorType",
    "half_float_bytes",
    "half_floats",
]

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

PORTION_WEIGHTS = 1 << 21
"""About as many weights are decoded at a time, so that temporary arrays stay in the megabytes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """Weights `codes * scales`; scales are () for the tensor, [rows], or [rows, groups along depth]."""

    codes: Codes
    scales: Floats

    def float32(self) -> Floats:
        """Return the real values, float32[rows, depth]."""
        rows, depth = self.codes.shape
        scales = self.scales.reshape((1, 1) if self.scales.ndim == 0 else (rows, -1))
        groups = scales.shape[1]
        values = np.empty((rows, groups, depth // groups), np.float32)
        np.multiply(self.codes.reshape(values.shape), scales[:, :, None], out=values)
        return values.reshape(rows, depth)


@dataclasses.dataclass(frozen=True)
class TensorType:
    """A type of ggml: its number, its name, and the size of its blocks.

    This class alone knows the size of a tensor but not how to read it; those below can read, and `pack`,
    where there is one, writes.
    """

    id: int
    name: str
    block_weights: int
    block_bytes: int

    def num_bytes(self, rows: int, depth: int) -> int | None:
        """Return how many bytes a [rows, depth] matrix takes, or None if this type cannot hold its shape."""
        if depth % self.block_weights:
            return None
        return rows * (depth // self.block_weights) * self.block_bytes

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Return the values, float32[rows, depth]."""
        raise UnsupportedFormatError(f"it is of type {self.name}, which this release does not read")

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class BlockFloats(TensorType):
    """Real values in blocks: `values` uint8[blocks, block_bytes] -> float32[blocks, block_weights]."""

    values: Callable[[Bytes], Floats]
    pack: Callable[[Floats], Bytes] | None = None

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Return the values, float32[rows, depth]."""
        result = np.empty((rows * depth // self.block_weights, self.block_weights), np.float32)
        for part in portions(len(result), self.block_weights):
            result[part] = self.values(data.reshape(-1, self.block_bytes)[part])
        return result.reshape(rows, depth)


@dataclasses.dataclass(frozen=True)
class BlockTernary(TensorType):
    """Levels in blocks with one scale each: `unpack` uint8[blocks, block_bytes] -> int8[blocks,
    block_weights], float32[blocks].
    """

    unpack: Callable[[Bytes], tuple[Codes, Floats]]
    scale_at: int
    """Where in a block its scale is, a float16."""
    pack: Callable[[Codes, Floats], Bytes] | None = None

    def scales(self, data: Bytes, rows: int) -> Floats:
        """Return the scales alone, float32[rows, blocks in a row]."""
        blocks = data.reshape(-1, self.block_bytes)
        return half_floats(blocks[:, self.scale_at : self.scale_at + 2]).reshape(rows, -1)

    def levels(self, data: Bytes, rows: int, depth: int) -> Levels:
        """Return codes and one scale for each block."""
        num_blocks = rows * depth // self.block_weights
        codes = np.empty((num_blocks, self.block_weights), np.int8)
        scales = np.empty(num_blocks, np.float32)
        for part in portions(num_blocks, self.block_weights):
            codes[part], scales[part] = self.unpack(data.reshape(-1, self.block_bytes)[part])
        return Levels(codes.reshape(rows, depth), scales.reshape(rows, -1))

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Return the values, float32[rows, depth]."""
        return self.levels(data, rows, depth).float32()


@dataclasses.dataclass(frozen=True)
class RowTernary(TensorType):
    """Ternary codes in rows that begin with their scale; `together` rows are interleaved.

    `unpack` uint8[bundles, bytes], depth -> int8[rows, depth], float32[rows], where a bundle is `together`
    rows.
    """

    unpack: Callable[[Bytes, int], tuple[Codes, Floats]]
    row_bytes: int
    together: int = 1

    def num_bytes(self, rows: int, depth: int) -> int | None:
        """Return how many bytes a [rows, depth] matrix takes, or None if this type cannot hold its shape."""
        blocks = super().num_bytes(rows, depth)
        return None if blocks is None or rows % self.together else blocks + rows * self.row_bytes

    def levels(self, data: Bytes, rows: int, depth: int) -> Levels:
        """Return codes and one scale for each row."""
        codes = np.empty((rows, depth), np.int8)
        scales = np.empty(rows, np.float32)
        bundles = data.reshape(rows // self.together, -1)
        for part in portions(len(bundles), depth * self.together):
            rows_of_part = slice(part.start * self.together, part.stop * self.together)
            codes[rows_of_part], scales[rows_of_part] = self.unpack(bundles[part], depth)
        return Levels(codes, scales)

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Return the values, float32[rows, depth]."""
        return self.levels(data, rows, depth).float32()


def portions(count: int, weights_each: int) -> Iterator[slice]:
    """Cut `count` things of so many weights each into slices of a bounded number of weights."""
    step = max(1, PORTION_WEIGHTS // weights_each)
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def half_floats(stored: Bytes) -> Floats:
    """Widen the float16 in the last axis of `stored`, two bytes each, to float32."""
    return np.ascontiguousarray(stored).view("<f2").astype(np.float32)


def half_float_bytes(values: npt.NDArray[Any]) -> Bytes:
    """Round to float16 and return [..., 2] bytes. What is too large for float16 becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype("<f2")[..., None].view(np.uint8)
