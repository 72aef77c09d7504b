"""Random weights that behave like trained ones: for tests, and to measure speed without a download.

Codes are -1, 0 and +1 in the proportions of BitNet b1.58 2B-4T (28.9, 42.2 and 28.9 percent), or -1 and +1 in
halves. Scales are such that the numbers stay where a trained model keeps them, whatever the dimensions and
options: queries, keys, gates and ups have a spread near 1, the layers together add twice the unit to the
residual stream (whose unit is `embedding_scale`), and logits have a standard deviation near 3, so that the
next token depends on the context and not on the embedding of the last token alone.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import Granularity, TernaryTensor

__all__ = ["RandomStyle", "random_weights"]

# One random byte makes one code: 74, 108 and 74 of its 256 values.
_CODE_OF_BYTE = np.repeat(np.array([-1, 0, 1], np.int8), [74, 108, 74])
_NONZERO = 148 / 256
_SIGN_OF_BYTE = np.repeat(np.array([-1, 1], np.int8), 128)

LOGIT_SPREAD = 3.0
RESIDUAL_SPREAD = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomStyle:
    """How the ternary matrices of a random model are made.

    Raises:
        ParameterError: the group size is no positive number.
    """

    granularity: Granularity = "tensor"
    """How far a scale reaches."""
    group_size: int = 128
    """Columns that share a scale, where the granularity is `group`."""
    binary: bool = False
    """Whether codes are -1 and +1 only, as in BitNet 1.0."""
    ternary_embeddings: bool = False
    """Whether embedding and output head are ternary, too."""

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ParameterError(f"group_size must be at least 1, not {self.group_size}")

    def matrix(self, random: np.random.Generator, rows: int, depth: int, spread: float) -> TernaryTensor:
        """Draw a matrix whose weights have this standard deviation, all scales within some ten percent.

        Raises:
            ParameterError: the group size does not divide the depth.
        """
        if self.granularity == "group" and depth % self.group_size:
            raise ParameterError(
                f"a matrix of depth {depth} has no whole groups of {self.group_size} columns"
            )
        code_of_byte = _SIGN_OF_BYTE if self.binary else _CODE_OF_BYTE
        codes = code_of_byte[np.frombuffer(random.bytes(rows * depth), np.uint8)].reshape(rows, depth)
        sizes = {"tensor": (), "row": (rows,), "group": (rows, depth // self.group_size)}
        size = sizes[self.granularity]
        scale = spread * np.exp(0.1 * random.standard_normal(size)) / np.sqrt(1 if self.binary else _NONZERO)
        return TernaryTensor(codes, np.asarray(scale, np.float32))


def random_weights(
    config: ModelConfig, seed: int = 0, style: RandomStyle | None = None
) -> Mapping[str, TernaryTensor | NDArray[np.float32]]:
    """Return every tensor of a random model by its canonical name, made when it is looked up.

    The same arguments always give the same tensors, in whatever order they are asked for. Nothing is kept, so
    that a model of billions of weights can be packed tensor by tensor.

    Raises:
        ParameterError: (when a tensor is looked up) it has no whole groups of columns.
    """
    return _RandomWeights(config, seed, style or RandomStyle())


class _RandomWeights(Mapping[str, TernaryTensor | NDArray[np.float32]]):
    def __init__(self, config: ModelConfig, seed: int, style: RandomStyle) -> None:
        self._config = config
        self._seed = seed
        self._style = style
        self._shapes = tensor_shapes(config)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, name: str) -> TernaryTensor | NDArray[np.float32]:
        shape = self._shapes[name]
        random = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        if len(shape) == 1:
            norm = 1 + np.float32(0.1) * random.standard_normal(shape, np.float32)
            return norm * np.float32(self._layer_spread()) if name.endswith("post_norm") else norm
        rows, depth = shape
        if is_ternary(name):
            return self._style.matrix(random, rows, depth, self._output_spread(name) / float(np.sqrt(depth)))
        if self._style.ternary_embeddings:
            return self._style.matrix(random, rows, depth, self._embedding_spread(name))
        return random.standard_normal(shape, np.float32) * np.float32(self._embedding_spread(name))

    def _output_spread(self, name: str) -> float:
        """How large the output of this matrix is to be, for inputs of unit size."""
        if name.endswith(("attention.o", "ffn.down")) and not self._config.post_norms:
            return self._layer_spread()
        return 1.0

    def _layer_spread(self) -> float:
        """How large what each half of a layer adds to the residual stream is to be."""
        return self._config.embedding_scale * RESIDUAL_SPREAD / float(np.sqrt(2 * self._config.num_layers))

    def _embedding_spread(self, name: str) -> float:
        if name == "embedding" and not self._config.tied_embeddings:
            return 1.0
        return LOGIT_SPREAD / float(np.sqrt(self._config.hidden_size))
