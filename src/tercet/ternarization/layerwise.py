"""Ternary matrices in the order in which a model uses them, a layer at a time.

    absmean       each from its weights alone
    calibrated    each for the inputs that it gets from a calibration text when all before it, in its own
                  layer too, are ternary already

The full-precision model goes through the same text, one layer ahead, and says what each matrix should give.
For the two that add to the residual stream this is what brings the stream back to where it was: a later
matrix makes up for what earlier ones have lost. In memory are one layer and, for all tokens of the text, what
passes between two layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel
from tercet.models.tensor_names import is_ternary
from tercet.quantization.activations import input_rounding
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference.linear import bit_linear
from tercet.ternarization.absmean import absmean
from tercet.ternarization.calibrated import Moments, aimed, calibrated
from tercet.ternarization.methods import Method
from tercet.ternarization.side_by_side import SideBySide

__all__ = ["ternary_matrices"]

Array = NDArray[np.float32]

ADDING = ("attention.o", "ffn.down")
"""What these give is added to the residual stream."""


def ternary_matrices(
    source: LoadedModel,
    method: Method,
    sequences: NDArray[np.int64],
    quantize_activations: bool,
    progress: Callable[[str], None],
) -> Iterator[tuple[str, TernaryTensor]]:
    """Yield the matrices of all layers, in the order of `source.tensors`.

    Args:
        source: the full-precision model.
        method: how.
        sequences: token ids of the calibration text, int64 [sequences, tokens]; absmean looks at none.
        quantize_activations: whether the result will round activations to int8.
        progress: called with the name of each matrix that was found.
    """
    if method.name == "absmean":
        for name in filter(is_ternary, source.tensors):
            weights = np.asarray(source.reference_weights[name], np.float32)
            granularity = method.granularity or "tensor"
            yield name, absmean(weights, granularity, method.group_of(weights.shape[1]))
            source.release()
            progress(name)
        return
    original = _Original(source.config, source.reference_weights, sequences.shape[1])
    decoder = _Calibration(source, method, original, quantize_activations, progress)
    x, y = original.begin(sequences), decoder.begin(sequences)
    for index in range(source.config.num_layers):
        original.outputs.clear()
        x, y = original.layer(index, x), decoder.layer(index, y)
        source.release()
        found, decoder.found = decoder.found, {}
        yield from ((name, found[name]) for name in source.tensors if name in found)


class _WithResidual(SideBySide):
    """Remembers the residual stream that an addition goes to."""

    residual: Array

    def _attention(self, index: int, x: Array, positions: NDArray[np.int64]) -> Array:
        self.residual = x
        return super()._attention(index, x, positions)

    def _feed_forward(self, layer: str, x: Array) -> Array:
        self.residual = x
        return super()._feed_forward(layer, x)

    def _adds(self, name: str) -> bool:
        """Say whether what this matrix gives is added to the stream as it is."""
        return name.endswith(ADDING) and not self.config.post_norms


class _Original(_WithResidual):
    """The full-precision model. Keeps what a layer's matrices give, behind the addition if there is one."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], length: int) -> None:
        super().__init__(config, weights, length)
        self.outputs: dict[str, Array] = {}

    def _linear(self, name: str, x: Array) -> Array:
        y = super()._linear(name, x)
        self.outputs[name] = self.residual + y if self._adds(name) else y
        return y


class _Calibration(_WithResidual):
    """A decoder that makes each matrix ternary when it meets it, and goes on with what it made."""

    def __init__(
        self,
        source: LoadedModel,
        method: Method,
        original: _Original,
        quantize_activations: bool,
        progress: Callable[[str], None],
    ) -> None:
        super().__init__(source.config, source.reference_weights, original.length)
        self.quantize_activations = quantize_activations
        self.found: dict[str, TernaryTensor] = {}
        self._method = method
        self._original = original
        self._progress = progress
        self._inputs: Array | None = None
        self._moments: Moments | None = None

    def _linear(self, name: str, x: Array) -> Array:
        # Queries, keys and values see the same inputs, and so do gate and up.
        if self._moments is None or self._inputs is not x:
            self._moments, self._inputs = Moments.of(x), x
        method = self._method
        targets = self._original.outputs.pop(name)
        if self._adds(name):
            targets = targets - self.residual
        weights = aimed(np.asarray(self._weight(name), np.float32), self._moments, x, targets)
        group = method.group_of(weights.shape[1])
        per_row = method.granularity == "row"
        result = calibrated(weights, self._moments, group, method.sweeps, per_row=per_row)
        self.found[name] = result
        self._progress(name)
        rounding = input_rounding(self.config.activation_rule, name)
        return bit_linear(x, result, quantize_activations=self.quantize_activations, rounding=rounding)
