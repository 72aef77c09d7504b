"""Codes at eight bits, multiplied by operators of ONNX itself: for runtimes without MatMulNBits at two bits.

Files are four times as large as at two bits. The matrix lies as [depth, rows], as these operators want it.

Where activations are floats, so are the weights of a product, and a runtime may keep them like that: then
memory is sixteen times that at two bits. DequantizeLinear would say the same, but onnxruntime joins it with
MatMul to an operator that rounds the activations.
"""

from __future__ import annotations

import numpy as np

from tercet.conversion.onnx.graph import Graph
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["Int8"]

UNSIGNED_ZERO = 128
"""Codes of activations become uint8, and the operator takes this away: uint8 with int8 is fast everywhere."""


class Int8:
    """Products with codes at eight bits."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._unsigned: dict[str, str] = {}

    def rounded(self, name: str, codes: str, tensor: TernaryTensor) -> str:
        """Return codes @ tensor.codes.T, times scales of groups if it has such; codes are whole floats."""
        graph = self._graph
        if tensor.granularity == "group":
            return self.floats(name, codes, tensor)
        if codes not in self._unsigned:
            moved = graph.op("Add", codes, graph.constant(UNSIGNED_ZERO))
            self._unsigned[codes] = graph.op("Cast", moved, to=2)
        zero = graph.constant(UNSIGNED_ZERO, np.uint8)
        product = graph.op("MatMulInteger", self._unsigned[codes], self._codes(name, tensor), zero)
        return graph.op("Cast", product, to=1)

    def floats(self, name: str, x: str, tensor: TernaryTensor) -> str:
        """Return x @ tensor.codes.T, times the scales of groups if it has such, for any floats."""
        graph, (rows, depth) = self._graph, tensor.shape
        weights = graph.op("Cast", self._codes(name, tensor), to=1)
        if tensor.granularity == "group":
            scales = graph.op("Unsqueeze", self._scales(name, tensor), graph.integers(1))  # [groups, 1, rows]
            weights = graph.op("Reshape", weights, graph.integers(-1, tensor.group_size, rows))
            weights = graph.op("Reshape", graph.op("Mul", weights, scales), graph.integers(depth, rows))
        return graph.op("MatMul", x, weights)

    def lookup(self, name: str, ids: str, tensor: TernaryTensor) -> str:
        """Return rows of the matrix as floats."""
        graph, depth = self._graph, tensor.shape[1]
        columns = graph.op("Gather", self._codes(name, tensor), ids, axis=1)  # [depth, batch, tokens]
        rows = graph.op("Cast", graph.op("Transpose", columns, perm=[1, 2, 0]), to=1)
        if tensor.granularity != "group":
            return rows
        scales = graph.op("Gather", self._scales(name, tensor), ids, axis=1)
        factors = graph.op("Unsqueeze", graph.op("Transpose", scales, perm=[1, 2, 0]), graph.integers(-1))
        groups = graph.integers(0, 0, depth // tensor.group_size, tensor.group_size)
        product = graph.op("Mul", graph.op("Reshape", rows, groups), factors)
        return graph.op("Reshape", product, graph.integers(0, 0, depth))

    def _codes(self, name: str, tensor: TernaryTensor) -> str:
        rows, depth = tensor.shape
        return self._graph.weight(f"{name}.int8", (depth, rows), [tensor.codes.T])

    def _scales(self, name: str, tensor: TernaryTensor) -> str:
        rows, groups = tensor.scales.shape
        return self._graph.weight(f"{name}.scales", (groups, rows), [tensor.scales.T])
