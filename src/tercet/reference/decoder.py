"""The decoder of BitNet b1.58 2B-4T, from token ids to logits.

    x = embedding[token_ids]
    for each layer:
        x = x + O( sub_norm( attend( rotate(Q h), rotate(K h), V h ) ) )        h = norm(x)
        x = x + Down( sub_norm( activation(Gate h) * (Up h) ) )                 h = norm(x)
    logits = norm(x) @ output_head.T

Q, K, V, O, Gate, Up and Down are BitLinear; the embedding and the head, mostly the same matrix, are not
quantized. There are no biases. The sub-norms, absent from some older models, keep what enters O and Down in
the range that int8 serves well. The names of the weights are those of `tercet.models.tensor_names`.

Source: "BitNet b1.58 2B4T Technical Report", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ContextLengthError, ParameterError
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference.attention import attend, rotate
from tercet.reference.config import DecoderConfig
from tercet.reference.feed_forward import ACTIVATIONS
from tercet.reference.linear import bit_linear
from tercet.reference.normalization import rms_norm

__all__ = ["ReferenceDecoder"]

Array = NDArray[np.float32]


class ReferenceDecoder:
    """A decoder that computes all positions of one sequence at once and remembers nothing.

    Args:
        config: dimensions and options. weights: canonical name -> tensor; `TernaryTensor` for the seven
        matrices of a layer (a float matrix is
            taken as it is), float arrays for the rest. Looked up when needed, so the mapping may be lazy.
        quantize_activations: overrides the config's.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, TernaryTensor | NDArray[np.floating]],
        *,
        quantize_activations: bool | None = None,
    ) -> None:
        self.config = config
        self.weights = weights
        asked = quantize_activations
        self.quantize_activations = config.quantize_activations if asked is None else asked

    def logits(self, token_ids: Sequence[int] | NDArray[np.integer]) -> Array:
        """Return the logits after every token, float32 [tokens, vocab_size].

        Raises:
            ParameterError: there is no token, an id is not in the vocabulary, or a weight is missing.
            ContextLengthError: there are more tokens than the model's context holds.
        """
        ids = self._checked(token_ids)
        x = self._float("embedding")[ids]
        positions = np.arange(len(ids))
        for layer in range(self.config.num_layers):
            x = x + self._attention(f"layers.{layer}.", x, positions)
            x = x + self._feed_forward(f"layers.{layer}.", x)
        head = self._float("embedding" if self.config.tied_embeddings else "output_head")
        return self._norm("final_norm", x) @ head.T

    def _attention(self, layer: str, x: Array, positions: NDArray[np.int64]) -> Array:
        config = self.config
        h = self._norm(layer + "attention_norm", x)
        query = self._linear(layer + "attention.q", h).reshape(-1, config.num_heads, config.head_dim)
        key = self._linear(layer + "attention.k", h).reshape(-1, config.num_kv_heads, config.head_dim)
        value = self._linear(layer + "attention.v", h).reshape(-1, config.num_kv_heads, config.head_dim)
        query = rotate(query, positions, config.rope_theta)
        key = rotate(key, positions, config.rope_theta)
        attended = attend(query, key, value)
        if config.attention_sub_norm:
            attended = self._norm(layer + "attention.sub_norm", attended)
        return self._linear(layer + "attention.o", attended)

    def _feed_forward(self, layer: str, x: Array) -> Array:
        h = self._norm(layer + "ffn_norm", x)
        activation = ACTIVATIONS[self.config.activation]
        gated = activation(self._linear(layer + "ffn.gate", h)) * self._linear(layer + "ffn.up", h)
        if self.config.ffn_sub_norm:
            gated = self._norm(layer + "ffn.sub_norm", gated)
        return self._linear(layer + "ffn.down", gated)

    def _linear(self, name: str, x: Array) -> Array:
        return bit_linear(x, self._weight(name), quantize_activations=self.quantize_activations)

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self._float(name), self.config.rms_norm_eps)

    def _float(self, name: str) -> Array:
        weight = self._weight(name)
        return weight.dequantize() if isinstance(weight, TernaryTensor) else weight

    def _weight(self, name: str) -> TernaryTensor | Array:
        try:
            weight = self.weights[name]
        except KeyError as error:
            raise ParameterError(f"the model has no tensor {name}, which its config calls for") from error
        return weight if isinstance(weight, TernaryTensor) else np.asarray(weight, np.float32)

    def _checked(self, token_ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        ids = np.asarray(token_ids)
        if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
            raise ParameterError(
                f"token_ids is a sequence of at least one whole number, not {ids.dtype} {list(ids.shape)}"
            )
        if outside := ids[(ids < 0) | (ids >= self.config.vocab_size)].tolist():
            raise ParameterError(
                f"token id {outside[0]} is not in the vocabulary of {self.config.vocab_size} tokens"
            )
        if len(ids) > self.config.max_context:
            raise ContextLengthError(
                f"{len(ids)} tokens do not fit the model's context of {self.config.max_context}"
            )
        return ids.astype(np.int64)
