"""Codes at two bits, multiplied by MatMulNBits: an operator of onnxruntime.

A matrix is stored in blocks of 128 columns (fewer where a scale reaches less far), each code as code + 2,
four to a byte. Asked for `accuracy_level` 4, onnxruntime rounds the left side to int8 itself, block by block,
by the largest magnitude of the block. That is the only fast way (at other levels it makes floats of the
weights anew at every call), but it is not the model's rule. Both products make it do what they need:

    rounded    The left side is int8 codes already. The last column of every block is kept free: its weights
               are zero and on the left it is 127. So the largest magnitude of every block is 127, the scale
               of the block 1, the rounding changes nothing, and the product is exact.
    floats     x is cut in two, x = high + low: high is what a block's rounding leaves of x, which a second
               rounding does not change, and low is at most 1/254 of the block's largest magnitude. Both are
               multiplied, and what rounding does to low is a 64,000th of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tercet.conversion.onnx.graph import CONTRIB, Graph
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["TwoBit"]

BLOCK = 128
BITS = 2
PER_BYTE = 4
ZERO = 2
"""The stored value of code 0: what MatMulNBits takes for zero unless it is told."""
INT8 = 4
"""The accuracy level at which the left side is rounded to int8."""
SMALLEST_STEP = 1e-35
ROWS_AT_ONCE = 1024
_Layout: TypeAlias = Callable[[npt.NDArray[np.int8]], npt.NDArray[np.int8]]


class TwoBit:
    """Products with codes at two bits."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._spread: dict[tuple[str, int, int], str] = {}

    def rounded(self, name: str, codes: str, tensor: TernaryTensor) -> str:
        """Return codes @ tensor.codes.T, times scales of groups if it has such; codes are whole floats."""
        rows, depth = tensor.shape
        is_grouped = tensor.granularity == "group"
        group = tensor.group_size
        block = min(BLOCK, 64) if is_grouped else BLOCK
        per_group = math.ceil(group / (block - 1))
        blocks = depth // group * per_group

        def stored(part: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
            groups = part.reshape(len(part), -1, group)
            padded = _padded(groups, per_group * (block - 1)).reshape(len(part), blocks, block - 1)
            return _padded(padded, block)

        weights = self._codes(f"{name}.rounded", tensor, blocks, block, stored)
        scales = np.repeat(tensor.scales, per_group, axis=1) if is_grouped else None
        left = self._spread_out(codes, depth, group, block)
        return self._product(left, weights, self._scales(name, rows, blocks, scales), rows, blocks, block)

    def floats(self, name: str, x: str, tensor: TernaryTensor) -> str:
        """Return x @ tensor.codes.T, times the scales of groups if it has such, for any floats."""
        graph, rows = self._graph, tensor.shape[0]
        weights, blocks, block = self._natural(name, tensor)
        is_grouped = tensor.granularity == "group"
        scales = np.repeat(tensor.scales, tensor.group_size // block, axis=1) if is_grouped else None
        x = _end_padded(graph, x, blocks * block - tensor.shape[1])
        x = graph.op("Reshape", x, graph.integers(0, 0, blocks, block))
        largest = graph.op("ReduceMax", graph.op("Abs", x), graph.integers(-1), keepdims=1)
        step = graph.op("Div", largest, graph.constant(127))
        step = graph.op("Max", step, graph.constant(SMALLEST_STEP))
        high = graph.op("Mul", graph.op("Round", graph.op("Div", x, step)), step)
        low = graph.op("Sub", x, high)
        both = graph.op("Concat", high, low, axis=1)
        both = graph.op("Reshape", both, graph.integers(0, 0, blocks * block))
        scale_name = self._scales(f"{name}.floats", rows, blocks, scales)
        product = self._product(both, weights, scale_name, rows, blocks, block)
        return graph.op("Add", *graph.ops("Split", 2, product, axis=1, num_outputs=2))

    def lookup(self, name: str, ids: str, tensor: TernaryTensor) -> str:
        """Return rows of the matrix as floats; a product `floats` with the same matrix shares its codes."""
        graph, depth = self._graph, tensor.shape[1]
        weights, blocks, block = self._natural(name, tensor)
        packed = graph.op("Gather", weights, ids, axis=0)  # [batch, tokens, blocks, bytes]
        packed = graph.op("Unsqueeze", packed, graph.integers(-1))
        shifts = graph.constant([0, 2, 4, 6], np.uint8)
        fields = graph.op("BitShift", packed, shifts, direction="RIGHT")
        fields = graph.op("BitwiseAnd", fields, graph.constant(3, np.uint8))
        rows = graph.op("Reshape", fields, graph.integers(0, 0, blocks * block))
        rows = graph.op("Cast", rows, to=1)
        rows = graph.op("Sub", rows, graph.constant(ZERO))
        rows = graph.op("Slice", rows, graph.integers(0), graph.integers(depth), graph.integers(-1))
        if tensor.granularity != "group":
            return rows
        groups = depth // tensor.group_size
        scales = graph.weight(f"{name}.table_scales", tensor.scales.shape, [tensor.scales])
        factors = graph.op("Unsqueeze", graph.op("Gather", scales, ids, axis=0), graph.integers(-1))
        rows = graph.op("Reshape", rows, graph.integers(0, 0, groups, tensor.group_size))
        return graph.op("Reshape", graph.op("Mul", rows, factors), graph.integers(0, 0, depth))

    def _natural(self, name: str, tensor: TernaryTensor) -> tuple[str, int, int]:
        """Store the matrix with no column between, and return it, its blocks and how long one is."""
        depth = tensor.shape[1]
        block = BLOCK if tensor.granularity != "group" else math.gcd(BLOCK, tensor.group_size)
        blocks = math.ceil(depth / block)

        def stored(part: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
            return _padded(part, blocks * block)

        return self._codes(name, tensor, blocks, block, stored), blocks, block

    def _codes(self, name: str, tensor: TernaryTensor, blocks: int, block: int, stored: _Layout) -> str:
        rows = tensor.shape[0]

        def pieces() -> Iterator[npt.NDArray[np.uint8]]:
            for start in range(0, rows, ROWS_AT_ONCE):
                part = stored(tensor.codes[start : start + ROWS_AT_ONCE])
                fields = (part + np.int8(ZERO)).view(np.uint8).reshape(-1, PER_BYTE)
                yield np.bitwise_or.reduce(fields << np.array([0, 2, 4, 6], np.uint8), axis=1)

        return self._graph.weight(f"{name}.two_bit", (rows, blocks, block // PER_BYTE), pieces())

    def _scales(self, name: str, rows: int, blocks: int, scales: npt.NDArray[np.float32] | None) -> str:
        if scales is None:  # matrices of one shape share ones; what scales there are multiply the product
            return self._graph.weight(
                f"ones.{rows}x{blocks}", (rows * blocks,), [np.ones(rows * blocks, np.float32)]
            )
        return self._graph.weight(f"{name}.scales", (rows * blocks,), [scales])

    def _spread_out(self, codes: str, depth: int, group: int, block: int) -> str:
        """Put a 127 behind every block - 1 codes of a group, and zeros where a group ends before."""
        key = (codes, group, block)
        if key not in self._spread:
            graph, groups = self._graph, depth // group
            per_group = math.ceil(group / (block - 1))
            x = graph.op("Reshape", codes, graph.integers(0, 0, groups, group))
            x = _end_padded(graph, x, per_group * (block - 1) - group)
            x = graph.op("Reshape", x, graph.integers(0, 0, groups * per_group, block - 1))
            x = _end_padded(graph, x, 1, 127.0)
            self._spread[key] = graph.op("Reshape", x, graph.integers(0, 0, groups * per_group * block))
        return self._spread[key]

    def _product(self, left: str, weights: str, scales: str, rows: int, blocks: int, block: int) -> str:
        return self._graph.op(
            "MatMulNBits",
            left,
            weights,
            scales,
            domain=CONTRIB,
            K=blocks * block,
            N=rows,
            bits=BITS,
            block_size=block,
            accuracy_level=INT8,
        )


def _padded(codes: npt.NDArray[np.int8], width: int) -> npt.NDArray[np.int8]:
    """Return codes with zeros behind the last axis."""
    ends = [(0, 0)] * (codes.ndim - 1) + [(0, width - codes.shape[-1])]
    return np.pad(codes, ends)


def _end_padded(graph: Graph, x: str, count: int, value: float = 0.0) -> str:
    """Return x with a value behind the last axis, `count` times."""
    if count == 0:
        return x
    ends, axis = graph.integers(0, count), graph.integers(-1)
    return graph.op("Pad", x, ends, graph.constant(value), axis)
