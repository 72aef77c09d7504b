"""A model of any shape with random weights, made directly in packed form.

Measuring speed needs bytes with the right statistics, not a trained model, and a 2B model must not take
minutes or twice its memory to make. So bytes are drawn from a table: 16 random bits choose one of 65,536
entries, in which each byte occurs in proportion to the probability of its codes. The share of zeros is that
published for bitnet-b1.58-2B-4T, 42 %; the rest is +1 and -1 alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.packings import Packing
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.packings.statistics import BLOCK_BYTES, codes_per_byte, zeros_per_byte

SHARE_OF_ZEROS = 0.42
TABLE_SIZE = 1 << 16
CHUNK_ITEMS = 1 << 16  # drawn at once, so that indices and results stay in the cache


class RandomModel(Mapping[str, "PackedMatrix | FloatMatrix"]):
    """Canonical name -> random matrix, made anew at each look-up; look each up once."""

    def __init__(
        self, config: ModelConfig, packing: str = "two_bit", head_type: str = "f16", seed: int = 0
    ) -> None:
        self._config = config
        self._packing = packing
        self._head_type = head_type
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._shapes = tensor_shapes(config)
        self._bytes = _byte_table(packing)
        self._floats = from_float32(_normal_table() / math.sqrt(config.hidden_size), head_type)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, name: str) -> PackedMatrix | FloatMatrix:
        shape = self._shapes[name]
        if is_ternary(name):
            return self._ternary(*shape)
        if len(shape) == 1:
            return FloatMatrix("f32", 1, shape[0], np.ones(shape[0], np.float32))
        rows, depth = shape
        return FloatMatrix(self._head_type, rows, depth, self._draw(self._floats, rows * depth))

    def _ternary(self, rows: int, depth: int) -> PackedMatrix:
        form = packing_of(self._packing)
        data = self._draw(self._bytes, form.packed_bytes(rows, depth))
        _clear_padding(data.reshape(-(-rows // form.ROW_MULTIPLE), -1, BLOCK_BYTES), form, rows, depth)
        # Inputs of unit size give outputs of unit size: activations stay finite through any number of layers.
        scale = 1 / math.sqrt(depth * (1 - SHARE_OF_ZEROS))
        return PackedMatrix(self._packing, rows, depth, data, np.full(1, scale, np.float32))

    def _draw(self, table: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        drawn = np.empty(count, table.dtype)
        for begin in range(0, count, CHUNK_ITEMS):
            part = drawn[begin : begin + CHUNK_ITEMS]
            indices = self._random.integers(2**64, size=-(-len(part) // 4), dtype=np.uint64).view(np.uint16)
            np.take(table, indices[: len(part)], out=part, mode="wrap")  # every index is in range: no check
        return drawn


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
