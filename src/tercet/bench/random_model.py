"""A model of any shape with random weights, made directly as it is stored.

Measuring speed needs bytes with the right statistics, not a trained model, and a model of 20 GB must not take
minutes or its size in memory to make. So bytes are drawn from a table: 16 random bits choose one of 65,536
entries, in which each byte occurs in proportion to the probability of its codes. The share of zeros is that
published for bitnet-b1.58-2B-4T, 42 %; the rest is +1 and -1 alike.

A matrix larger than `POOL_BYTES` is that many bytes of honest draws, again and again: no cache holds as much,
and no kernel looks at what the values are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import FLOAT_TYPES, from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.packings import Packing
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.packings.statistics import BLOCK_BYTES, codes_per_byte, zeros_per_byte
from tercet.quantization.planes import PLANES

__all__ = ["SHARE_OF_ZEROS", "RandomModel", "repeated"]

SHARE_OF_ZEROS = 0.42
TABLE_SIZE = 1 << 16
CHUNK_ITEMS = 1 << 16  # drawn at once, so that indices and results stay in the cache
POOL_BYTES = 32 << 20

Bytes = npt.NDArray[Any]


class RandomModel(Mapping[str, "PackedMatrix | PlaneMatrix | FloatMatrix"]):
    """Canonical name -> random matrix, made anew at each look-up; look each up once.

    Args:
        config: the shape.
        packing: how the projections are stored: a packing, or a float type for a model that is not ternary.
        head_type: how embedding and output head are stored: a float type, or planes.
        seed: the same seed gives the same model.
    """

    def __init__(
        self, config: ModelConfig, packing: str = "two_bit", head_type: str = "f16", seed: int = 0
    ) -> None:
        self.packing = packing
        self.head_type = head_type
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._shapes = tensor_shapes(config)
        self._tables: dict[str, Bytes] = {}
        self._pools: dict[tuple[str, int], Bytes] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, name: str) -> PackedMatrix | PlaneMatrix | FloatMatrix:
        kind, (rows, depth) = self.type_of(name), self.size_of(name)
        data = np.concatenate([piece.reshape(-1) for piece in self.pieces(name)])
        if kind in FLOAT_TYPES:
            return FloatMatrix(kind, rows, depth, data)
        scales = self.scales(name)
        matrix = PlaneMatrix if kind in PLANES else PackedMatrix
        return matrix(kind, rows, depth, data, scales)

    def type_of(self, name: str) -> str:
        """How a tensor is stored: a packing, planes, or a float type."""
        if len(self._shapes[name]) == 1:
            return "f32"
        return self.packing if is_ternary(name) else self.head_type

    def size_of(self, name: str) -> tuple[int, int]:
        """Rows and depth of a tensor; a vector is one row."""
        shape = self._shapes[name]
        return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])

    def scales(self, name: str) -> npt.NDArray[np.float32]:
        """The multipliers of a matrix that has some: inputs of unit size give outputs of unit size, so that
        activations stay finite through any number of layers.
        """
        kind, (rows, depth) = self.type_of(name), self.size_of(name)
        if kind in PLANES:
            return np.full(rows, 3 / math.sqrt(depth) / PLANES[kind].largest_code, np.float32)
        return np.full(1, 1 / math.sqrt(depth * (1 - SHARE_OF_ZEROS)), np.float32)

    def pieces(self, name: str) -> Iterator[Bytes]:
        """Yield the elements of a tensor as they are stored, some megabytes at a time."""
        kind, (rows, depth) = self.type_of(name), self.size_of(name)
        if len(self._shapes[name]) == 1:
            yield np.ones(depth, np.float32)
        elif kind in FLOAT_TYPES:
            yield from repeated(self._float_rows(kind, rows, depth), rows)
        elif kind in PLANES:
            codes = self._plane_rows(kind, rows, depth)
            for plane in PLANES[kind].pack_planes(codes):
                yield from repeated(plane.reshape(len(codes), -1), rows)
        else:
            yield from self._ternary(kind, rows, depth)

    def _ternary(self, kind: str, rows: int, depth: int) -> Iterator[Bytes]:
        form = packing_of(kind)
        block_bytes = form.packed_bytes(form.ROW_MULTIPLE, depth)
        blocks = -(-rows // form.ROW_MULTIPLE)
        key = (kind, depth)
        wanted = min(blocks, max(1, POOL_BYTES // block_bytes))
        if key not in self._pools or len(self._pools[key]) < wanted or wanted == blocks:
            table = self._table(kind)
            pool = self._draw(table, wanted * block_bytes).reshape(wanted, -1, BLOCK_BYTES)
            _clear_padding(pool, form, wanted * form.ROW_MULTIPLE, depth)
            self._pools[key] = pool
        pool, rest = self._pools[key], rows % form.ROW_MULTIPLE
        yield from repeated(pool, blocks - (rest > 0))
        if rest:
            last = pool[-1:].copy()
            _clear_padding(last, form, rest, depth)
            yield last

    def _float_rows(self, kind: str, rows: int, depth: int) -> Bytes:
        count = min(rows, _pool_rows(depth))
        table = self._table("normal")
        return self._draw(
            from_float32(np.float32(1 / math.sqrt(depth)) * table, kind), count * depth
        ).reshape(count, depth)

    def _plane_rows(self, kind: str, rows: int, depth: int) -> npt.NDArray[np.int8]:
        count, largest = min(rows, _pool_rows(depth)), PLANES[kind].largest_code
        normal = self._table("normal")
        table = np.rint(np.clip(normal / 3, -1, 1) * largest).astype(np.int8)
        return self._draw(table, count * depth).reshape(count, depth)

    def _table(self, kind: str) -> Bytes:
        if kind not in self._tables:
            self._tables[kind] = _normal_table() if kind == "normal" else _byte_table(kind)
        return self._tables[kind]

    def _draw(self, table: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        drawn = np.empty(count, table.dtype)
        for begin in range(0, count, CHUNK_ITEMS):
            part = drawn[begin : begin + CHUNK_ITEMS]
            indices = self._random.integers(2**64, size=-(-len(part) // 4), dtype=np.uint64).view(np.uint16)
            np.take(table, indices[: len(part)], out=part, mode="wrap")  # every index is in range: no check
        return drawn


def _pool_rows(depth: int) -> int:
    return max(1, POOL_BYTES // depth)


def repeated(pool: Bytes, count: int) -> Iterator[Bytes]:
    """Yield `count` entries of the first axis, those of the pool again and again."""
    while count > 0:
        yield pool[:count]
        count -= len(pool)


def _byte_table(packing: str) -> npt.NDArray[np.uint8]:
    """65,536 bytes, each as often as four or five independent codes would make it."""
    zeros, num_codes = zeros_per_byte(packing), codes_per_byte(packing)
    nonzero = (1 - SHARE_OF_ZEROS) / 2
    chance = np.where(zeros >= 0, SHARE_OF_ZEROS**zeros * nonzero ** (num_codes - zeros), 0.0)
    return np.repeat(np.arange(256, dtype=np.uint8), _whole_counts(chance))


def _whole_counts(chance: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers in proportion to the chances, TABLE_SIZE together."""
    edges: npt.NDArray[np.int64] = np.rint(np.cumsum(chance) / chance.sum() * TABLE_SIZE).astype(np.int64)
    edges[1:] -= edges[:-1].copy()
    return edges


def _normal_table() -> npt.NDArray[np.float32]:
    """The 65,536 quantiles of the standard normal distribution."""
    quantile = NormalDist().inv_cdf
    half = np.array([quantile((i + 0.5) / TABLE_SIZE) for i in range(TABLE_SIZE // 2)], np.float32)
    return np.concatenate([half, -half])


def _clear_padding(blocks: npt.NDArray[np.uint8], form: Packing, rows: int, depth: int) -> None:
    """Make the codes beyond rows and depth zero, in place. Shape [row blocks, depth blocks, 64]."""
    row_blocks, depth_blocks, _ = blocks.shape
    if rest := rows % form.ROW_MULTIPLE:
        codes = form.unpack(blocks[-1].reshape(-1), form.ROW_MULTIPLE, depth_blocks * form.DEPTH_MULTIPLE)
        codes[rest:] = 0
        blocks[-1] = form.pack(codes).reshape(depth_blocks, BLOCK_BYTES)
    if rest := depth % form.DEPTH_MULTIPLE:
        last = np.ascontiguousarray(blocks[:, -1]).reshape(-1)
        codes = form.unpack(last, row_blocks * form.ROW_MULTIPLE, form.DEPTH_MULTIPLE)
        codes[:, rest:] = 0
        blocks[:, -1] = form.pack(codes).reshape(row_blocks, BLOCK_BYTES)
