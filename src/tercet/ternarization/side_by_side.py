"""The decoder of the specification, several sequences of one length in one array.

Everything but attention treats each token alone, so rows of all sequences go through a matrix together, and
each weight is looked up once for all of them. A layer is a step of its own: what lies between two layers is
all that has to be kept, and a model of any depth passes through the memory of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tercet.models.config import ModelConfig
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

__all__ = ["SideBySide"]

Array = NDArray[np.float32]


class SideBySide(ReferenceDecoder):
    """A decoder that goes a layer at a time.

    Args:
        config: of the model.
        weights: canonical name -> tensor, looked up once in every layer.
        length: tokens in each sequence.
    """

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, TernaryTensor | NDArray[np.floating]], length: int
    ) -> None:
        super().__init__(config, weights)
        self.length = length

    def begin(self, sequences: NDArray[np.int64]) -> Array:
        """Return what enters the first layer, float32 [sequences * tokens, hidden_size]."""
        scale = np.float32(self.config.embedding_scale)
        return np.concatenate([self._embedded(self._checked(ids)) for ids in sequences]) * scale

    def layer(self, index: int, x: Array) -> Array:
        """Return what leaves a layer that `x` enters."""
        positions = np.tile(np.arange(self.length), len(x) // self.length)
        return self._layer(index, x, positions)

    def before_head(self, x: Array) -> Array:
        """Return what the matrix of `head_name` is multiplied with, float32 [sequences * tokens, hidden]."""
        return self._turned(self.head_name, self._norm("final_norm", x))

    @property
    def head_name(self) -> str:
        """Which matrix makes logits."""
        return "embedding" if self.config.tied_embeddings else "output_head"

    def head(self) -> Array:
        """Return that matrix, float32 [vocab_size, hidden_size]."""
        return self._float(self.head_name)

    def _attend(self, query: Array, key: Array, value: Array, window: int | None) -> Array:
        parts = [slice(start, start + self.length) for start in range(0, len(query), self.length)]
        return np.concatenate(
            [super(SideBySide, self)._attend(query[p], key[p], value[p], window) for p in parts]
        )
