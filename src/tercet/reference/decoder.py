"""The decoder, from token ids to logits or to one vector for all of them.

    x = scale * embedding[token_ids]
    for each layer:
        x = x + post_norm?( O( sub_norm?( attend( rotate(q_norm?(Q h)), rotate(k_norm?(K h)), V h ) ) ) )
        x = x + post_norm?( Down( sub_norm?( activation(Gate h) * (Up h) ) ) )         h = norm(x), both times
    logits = norm(x) @ output_head.T

Q, K, V, O, Gate, Up and Down are BitLinear; the embedding and the head, often the same matrix, round no
activations. There are no biases. What has a question mark some architectures have: sub-norms, which keep what
enters O and Down in the range that int8 serves well, BitNet b1.58; norms of queries and keys Qwen 3 and
Gemma 3; post-norms and scaled embeddings Gemma 3. The input of a BitLinear may be normalized once more and
turned into another basis on its way in. The names of the weights are those of `tercet.models.tensor_names`.

Source: "BitNet b1.58 2B4T Technical Report", section 2; "Qwen3 Technical Report", section 2; "Gemma 3
Technical Report", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ContextLengthError, ParameterError, UnsupportedModelError
from tercet.quantization.activations import input_rounding
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference.attention import attend
from tercet.reference.config import DecoderConfig
from tercet.reference.feed_forward import ACTIVATIONS
from tercet.reference.hadamard import turn, turn_back
from tercet.reference.linear import bit_linear
from tercet.reference.normalization import l2_normalized, rms_norm
from tercet.reference.rotary import rotate

__all__ = ["ReferenceDecoder"]

Array = NDArray[np.float32]


class ReferenceDecoder:
    """A decoder that computes all positions of one sequence at once and remembers nothing.

    Args:
        config: dimensions and options.
        weights: canonical name -> tensor: `TernaryTensor` for the seven matrices of a layer (a float matrix
            is taken as it is), either kind for embedding and head, float arrays for the rest. Looked up when
            needed, so the mapping may be lazy.
        quantize_activations: overrides the config's.
        adapter: canonical name of a matrix -> A [rank, depth], B [rows, rank] and a factor: what is added to
            its product, `factor * B (A x)`, with x as it is before it is normalized once more, turned or
            rounded for the matrix (LoRA).
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, TernaryTensor | NDArray[np.floating]],
        *,
        quantize_activations: bool | None = None,
        adapter: Mapping[str, tuple[Array, Array, float]] | None = None,
    ) -> None:
        self.config = config
        self.weights = weights
        self.adapter = adapter or {}
        asked = quantize_activations
        self.quantize_activations = config.quantize_activations if asked is None else asked

    def logits(self, token_ids: Sequence[int] | NDArray[np.integer]) -> Array:
        """Return the logits after every token, float32 [tokens, vocab_size].

        Raises:
            ParameterError: there is no token, an id is not in the vocabulary, or a weight is missing.
            ContextLengthError: there are more tokens than the model's context holds.
        """
        head = "embedding" if self.config.tied_embeddings else "output_head"
        x = self._turned(head, self.hidden_states(token_ids))
        return bit_linear(x, self._weight(head), quantize_activations=False)

    def embed(self, token_ids: Sequence[int] | NDArray[np.integer]) -> Array:
        """Return the vector that stands for the tokens, float32 [hidden_size].

        Raises:
            UnsupportedModelError: the model makes no embeddings.
            ParameterError, ContextLengthError: as `logits`.
        """
        if self.config.pooling != "last":
            raise UnsupportedModelError("the model predicts tokens, and makes no embeddings of texts")
        vector = self.hidden_states(token_ids)[-1]
        return l2_normalized(vector) if self.config.normalize_embeddings else vector

    def hidden_states(self, token_ids: Sequence[int] | NDArray[np.integer]) -> Array:
        """Return what the output head sees after every token, float32 [tokens, hidden_size].

        Raises:
            ParameterError, ContextLengthError: as `logits`.
        """
        ids = self._checked(token_ids)
        x = self._embedded(ids) * np.float32(self.config.embedding_scale)
        positions = np.arange(len(ids))
        for layer in range(self.config.num_layers):
            x = self._layer(layer, x, positions)
        return self._norm("final_norm", x)

    def _embedded(self, ids: NDArray[np.int64]) -> Array:
        table = self._weight("embedding")
        if isinstance(table, TernaryTensor):
            scales = table.scales if table.scales.ndim == 0 else table.scales[ids]
            table, ids = TernaryTensor(table.codes[ids], scales).dequantize(), np.arange(len(ids))
        rotation, rows = self.config.rotation, table[ids]
        if rotation is None or "embedding" not in rotation.outputs:
            return rows
        return turn_back(rows, rotation.signs_of(rows.shape[1]), rotation.block_size)

    def _layer(self, index: int, x: Array, positions: NDArray[np.int64]) -> Array:
        x = x + self._attention(index, x, positions)
        return x + self._feed_forward(f"layers.{index}.", x)

    def _attention(self, index: int, x: Array, positions: NDArray[np.int64]) -> Array:
        config, layer = self.config, f"layers.{index}."
        h = self._norm(layer + "attention_norm", x)
        query = self._project(layer + "attention.q", h).reshape(-1, config.num_heads, config.head_dim)
        key = self._project(layer + "attention.k", h).reshape(-1, config.num_kv_heads, config.head_dim)
        value = self._project(layer + "attention.v", h).reshape(-1, config.num_kv_heads, config.head_dim)
        if config.qk_norm:
            query = self._norm(layer + "attention.q_norm", query)
            key = self._norm(layer + "attention.k_norm", key)
        window = config.layer_windows[index]
        frequencies = config.inverse_frequencies if window is None else config.local_inverse_frequencies
        is_stretched = window is None or config.rope_local_theta is None
        factor = config.rope_attention_factor if is_stretched else 1.0
        query, key = (rotate(heads, positions, frequencies, factor) for heads in (query, key))
        attended = self._attend(query, key, value, window)
        if config.attention_sub_norm:
            attended = self._norm(layer + "attention.sub_norm", attended)
        return self._post_norm(layer + "attention_post_norm", self._project(layer + "attention.o", attended))

    def _attend(self, query: Array, key: Array, value: Array, window: int | None) -> Array:
        return attend(query, key, value, self.config.attention_scale, window)

    def _feed_forward(self, layer: str, x: Array) -> Array:
        h = self._norm(layer + "ffn_norm", x)
        activation = ACTIVATIONS[self.config.activation]
        gated = activation(self._project(layer + "ffn.gate", h)) * self._project(layer + "ffn.up", h)
        if self.config.ffn_sub_norm:
            gated = self._norm(layer + "ffn.sub_norm", gated)
        return self._post_norm(layer + "ffn_post_norm", self._project(layer + "ffn.down", gated))

    def _project(self, name: str, x: Array) -> Array:
        product = self._product(name, x)
        if name not in self.adapter:
            return product
        reduce, expand, factor = self.adapter[name]
        reduced: Array = (x @ reduce.T).astype(np.float32) * np.float32(factor)
        return product + reduced @ expand.T

    def _product(self, name: str, x: Array) -> Array:
        if self.config.projection_norms:
            eps = self.config.projection_norm_eps
            x = self._norm(name + ".input_norm", x, self.config.rms_norm_eps if eps is None else eps)
        return self._linear(name, self._turned(name, x))

    def _linear(self, name: str, x: Array) -> Array:
        """Multiply what a matrix sees by it: the one place where that happens, apart from the output head."""
        rounding = input_rounding(self.config.activation_rule, name)
        quantize = self.quantize_activations
        return bit_linear(x, self._weight(name), quantize_activations=quantize, rounding=rounding)

    def _turned(self, name: str, x: Array) -> Array:
        rotation = self.config.rotation
        if rotation is None or name not in rotation.inputs:
            return x
        return turn(x, rotation.signs_of(x.shape[-1]), rotation.block_size)

    def _post_norm(self, name: str, x: Array) -> Array:
        return self._norm(name, x) if self.config.post_norms else x

    def _norm(self, name: str, x: Array, eps: float | None = None) -> Array:
        return rms_norm(x, self._float(name), self.config.rms_norm_eps if eps is None else eps)

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
