"""What a matrix does to activations: the counterpart of `tercet.reference.linear`.

    y = (codes_x @ codes_w.T) * (scale_x * scale_w)          codes_x, scale_x = absmax_int8(x)

Inputs that several matrices share are rounded once.
"""

from __future__ import annotations

from typing import Protocol

from tercet.conversion.onnx.graph import Graph
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.quantization.activations import SMALLEST_MAGNITUDE
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["Products", "Storage"]


class Storage(Protocol):
    """A way of storing codes and multiplying by them; `two_bit` and `int8` have one each."""

    def rounded(self, name: str, codes: str, tensor: TernaryTensor) -> str:
        """Return the product with int8 codes, before scales that reach a row or more."""

    def floats(self, name: str, x: str, tensor: TernaryTensor) -> str:
        """Return the product with floats, before scales that reach a row or more."""

    def lookup(self, name: str, ids: str, tensor: TernaryTensor) -> str:
        """Return rows as floats, before scales that reach a row or more."""


class Products:
    """Products with matrices of a model, ternary or not."""

    def __init__(self, graph: Graph, storage: Storage) -> None:
        self._graph = graph
        self._storage = storage
        self._rounded: dict[str, tuple[str, str]] = {}

    def linear(self, name: str, x: str, matrix: PackedMatrix | FloatMatrix, *, rounds: bool) -> str:
        """Return x @ matrix.T for x [batch, tokens, depth]; `rounds` says whether x becomes int8."""
        graph = self._graph
        if isinstance(matrix, FloatMatrix):
            return graph.op("MatMul", x, graph.op("Transpose", self._float32(name, matrix), perm=[1, 0]))
        tensor = matrix.unpack()
        factor = None if tensor.granularity == "group" else self._factor(name, tensor)
        if not rounds:
            product = self._storage.floats(name, x, tensor)
            return product if factor is None else graph.op("Mul", product, factor)
        codes, scale = self._codes(x)
        product = self._storage.rounded(name, codes, tensor)
        return graph.op("Mul", product, scale if factor is None else graph.op("Mul", scale, factor))

    def lookup(self, name: str, ids: str, matrix: PackedMatrix | FloatMatrix) -> str:
        """Return the rows of a matrix, float32 [batch, tokens, depth], for ids [batch, tokens]."""
        graph = self._graph
        if isinstance(matrix, FloatMatrix):
            rows = graph.op("Gather", self._table(name, matrix), ids, axis=0)
            return rows if matrix.type == "f32" else graph.op("Cast", rows, to=1)
        tensor = matrix.unpack()
        rows = self._storage.lookup(name, ids, tensor)
        if tensor.granularity == "group":
            return rows
        factor = self._factor(name, tensor)
        if tensor.granularity == "row":
            factor = graph.op("Unsqueeze", graph.op("Gather", factor, ids, axis=0), graph.integers(-1))
        return graph.op("Mul", rows, factor)

    def _codes(self, x: str) -> tuple[str, str]:
        if x not in self._rounded:
            graph = self._graph
            largest = graph.op("ReduceMax", graph.op("Abs", x), graph.integers(-1), keepdims=1)
            largest = graph.op("Max", largest, graph.constant(SMALLEST_MAGNITUDE))
            inverse = graph.op("Div", graph.constant(127), largest)
            codes = graph.op("Round", graph.op("Mul", x, inverse))  # halves go to even
            self._rounded[x] = codes, graph.op("Div", largest, graph.constant(127))
        return self._rounded[x]

    def _factor(self, name: str, tensor: TernaryTensor) -> str:
        if tensor.scales.ndim == 0:
            return self._graph.constant(tensor.scales)
        return self._graph.weight(f"{name}.row_scales", tensor.scales.shape, [tensor.scales])

    def _table(self, name: str, matrix: FloatMatrix) -> str:
        return self._graph.weight(name, (matrix.rows, matrix.depth), [matrix.data], matrix.type)

    def _float32(self, name: str, matrix: FloatMatrix) -> str:
        table = self._table(name, matrix)
        return table if matrix.type == "f32" else self._graph.op("Cast", table, to=1)
