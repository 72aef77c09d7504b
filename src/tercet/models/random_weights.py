"""Random weights that behave like trained ones: for tests, and to measure speed without a download.

Codes are -1, 0 and +1 in the proportions of BitNet b1.58 2B-4T (28.9, 42.2 and 28.9 percent). Scales are
such that the numbers stay where a trained model keeps them, whatever the dimensions: queries, keys, gates
and ups have a spread near 1, the layers together add twice the unit to the residual stream, and logits have
a standard deviation near 3, so that the next token depends on the context and not on the embedding of the
last token alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["random_weights"]

# One random byte makes one code: 74, 108 and 74 of its 256 values.
_CODE_OF_BYTE = np.repeat(np.array([-1, 0, 1], np.int8), [74, 108, 74])
_NONZERO = 148 / 256

LOGIT_SPREAD = 3.0
RESIDUAL_SPREAD = 2.0


def random_weights(config: ModelConfig, seed: int = 0) -> Mapping[str, TernaryTensor | NDArray[np.float32]]:
    """Return every tensor of a random model by its canonical name, made when it is looked up.

    The same config and seed always give the same tensors, in whatever order they are asked for. Nothing is
    kept, so that a model of billions of weights can be packed tensor by tensor.
    """
    return _RandomWeights(config, seed)


class _RandomWeights(Mapping[str, TernaryTensor | NDArray[np.float32]]):
    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._shapes = tensor_shapes(config)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, name: str) -> TernaryTensor | NDArray[np.float32]:
        shape = self._shapes[name]
        random = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        if is_ternary(name):
            codes = _CODE_OF_BYTE[np.frombuffer(random.bytes(shape[0] * shape[1]), np.uint8)].reshape(shape)
            spread = self._output_spread(name) * np.exp(0.1 * random.standard_normal())
            return TernaryTensor(codes, np.asarray(spread / np.sqrt(shape[1] * _NONZERO), np.float32))
        if len(shape) == 1:
            return 1 + np.float32(0.1) * random.standard_normal(shape, np.float32)
        return random.standard_normal(shape, np.float32) * np.float32(self._embedding_spread(name))

    def _output_spread(self, name: str) -> float:
        """How large the output of this matrix is to be, for inputs of unit size."""
        if name.endswith(("attention.o", "ffn.down")):
            return RESIDUAL_SPREAD / float(np.sqrt(2 * self._config.num_layers))
        return 1.0

    def _embedding_spread(self, name: str) -> float:
        if name == "embedding" and not self._config.tied_embeddings:
            return 1.0
        return LOGIT_SPREAD / float(np.sqrt(self._config.hidden_size))
