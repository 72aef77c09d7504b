"""The C++ decoder taken apart: its kernels called one by one from Python, with every int8 code kept.

Because each kernel states its order of sums, this gives the logits of `Decoder.forward` bit for bit. So it
shows that fusing, splitting over threads and paging change nothing, and it knows which codes were computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.kernels import floats
from tercet.models.config import ModelConfig
from tercet.quantization.ternary_tensor import TernaryTensor

Floats = npt.NDArray[np.float32]


SPAN = 256
"""Positions whose softmax is taken at once (cpp/include/tercet/attention.hpp)."""


class StepwiseDecoder:
    """One sequence, all positions at once, keys and values in f32 or int8."""

    def __init__(
        self,
        config: ModelConfig,
        model: Mapping[str, PackedMatrix | FloatMatrix],
        isa: str,
        kv_dtype: str = "f32",
    ) -> None:
        self._kv_dtype = kv_dtype
        self.config = config
        self.isa = isa
        self.codes: list[npt.NDArray[np.int8]] = []
        """The input codes [tokens, depth] of each matrix that rounds, in the order q k v o gate up down."""
        self._weights = {
            name: matrix.unpack() if isinstance(matrix, PackedMatrix) else matrix.float32()
            for name, matrix in model.items()
        }

    def logits(self, token_ids: npt.NDArray[np.int32]) -> Floats:
        name = "embedding" if self.config.tied_embeddings else "output_head"
        head, states = self._weights[name], self._turned(name, self.hidden_states(token_ids))
        if isinstance(head, TernaryTensor):
            return _product_with_floats(states, head)
        return floats.dot_rows(head, states, self.isa)

    def hidden_states(self, token_ids: npt.NDArray[np.int32]) -> Floats:
        config = self.config
        x = self._embedded(token_ids) * np.float32(config.embedding_scale)
        for layer in range(config.num_layers):
            name = f"layers.{layer}."
            h = self._norm(name + "attention_norm", x)
            q, k, v = (self._linear(name + "attention." + part, h) for part in "qkv")
            attended = self._if_any(name + "attention.sub_norm", self._attend(layer, q, k, v))
            o = self._linear(name + "attention.o", attended)
            x = x + self._if_any(name + "attention_post_norm", o)
            h = self._norm(name + "ffn_norm", x)
            gate, up = (self._linear(name + "ffn." + part, h) for part in ("gate", "up"))
            gated = np.stack(
                [floats.gated(g, u, config.activation, self.isa) for g, u in zip(gate, up, strict=True)]
            )
            down = self._linear(name + "ffn.down", self._if_any(name + "ffn.sub_norm", gated))
            x = x + self._if_any(name + "ffn_post_norm", down)
        return self._norm("final_norm", x)

    def _embedded(self, token_ids: npt.NDArray[np.int32]) -> Floats:
        table = self._weights["embedding"]
        rows = (table.dequantize() if isinstance(table, TernaryTensor) else table)[token_ids]
        rotation = self.config.rotation
        if rotation is None or "embedding" not in rotation.outputs:
            return rows
        return floats.hadamard(rows, rotation.block_size, self.isa) * rotation.signs_of(rows.shape[1])

    def _turned(self, name: str, x: Floats) -> Floats:
        rotation = self.config.rotation
        if rotation is None or name not in rotation.inputs:
            return x
        return floats.hadamard(x * rotation.signs_of(x.shape[1]), rotation.block_size, self.isa)

    def _norm(self, name: str, x: Floats, eps: float | None = None) -> Floats:
        weight = self._weights[name].ravel()
        eps = self.config.rms_norm_eps if eps is None else eps
        return np.stack([floats.rms_norm(row, weight, eps, self.isa) for row in x])

    def _if_any(self, norm: str, x: Floats) -> Floats:
        return self._norm(norm, x) if norm in self._weights else x

    def _linear(self, name: str, x: Floats) -> Floats:
        weight = self._weights[name]
        if self.config.projection_norms:
            x = self._norm(name + ".input_norm", x, self.config.projection_norm_eps)
        x = self._turned(name, x)
        if not isinstance(weight, TernaryTensor):
            return floats.dot_rows(weight, x, self.isa)
        if not self.config.quantize_activations:
            return _product_with_floats(x, weight)
        quantized = [floats.quantize(row, self.isa) for row in x]
        codes = np.stack([codes for codes, _, _ in quantized])
        self.codes.append(codes)
        scales = weight.scales.reshape(-1, 1) if weight.scales.ndim < 2 else weight.scales
        y = np.zeros((len(x), len(weight.codes)), np.float32)
        for group, start in enumerate(range(0, x.shape[1], weight.group_size)):
            columns = np.s_[:, start : start + weight.group_size]
            sums = codes[columns].astype(np.int32) @ weight.codes[columns].T.astype(np.int32)
            for token, (_, scale, _) in enumerate(quantized):
                y[token] = floats.rescale(sums[token], scale, scales[:, group], y[token], self.isa)
        return y

    def _attend(self, layer: int, query: Floats, key: Floats, value: Floats) -> Floats:
        config = self.config
        group = config.num_heads // config.num_kv_heads
        window = config.layer_windows[layer]
        scale = config.attention_scale
        query = self._placed(
            layer, "q", query, float(1 / np.sqrt(config.head_dim)) if scale is None else scale
        )
        key = self._placed(layer, "k", key, 1.0)
        value = value.reshape(len(value), config.num_kv_heads, config.head_dim)
        keys, values = self._stored(key), self._stored(value)
        out = np.empty_like(query)
        for token in range(len(query)):
            first = 0 if window is None else max(0, token + 1 - window)
            for head in range(config.num_heads):
                merged = None
                for begin in range(first // SPAN * SPAN, token + 1, SPAN):
                    span = np.s_[max(first, begin) : min(token + 1, begin + SPAN), head // group]
                    part = self._attend_span(query[token, head], keys, values, span)
                    merged = part if merged is None else floats.merge_softmax(*merged, *part, self.isa)
                assert merged is not None
                out[token, head] = merged[0]
        return out.reshape(len(query), config.query_size)

    def _stored(self, rows: Floats) -> tuple[Floats, Floats]:
        """Keys or values [tokens, heads, head_dim] as the cache holds them: numbers and their scales."""
        if self._kv_dtype == "f32":
            return rows, np.ones(rows.shape[:2], np.float32)
        quantized = [floats.quantize(row, self.isa)[:2] for row in rows.reshape(-1, rows.shape[2])]
        codes = np.stack([codes for codes, _ in quantized]).reshape(rows.shape)
        return codes.astype(np.float32), np.float32([scale for _, scale in quantized]).reshape(rows.shape[:2])

    def _attend_span(
        self, query: Floats, keys: tuple[Floats, Floats], values: tuple[Floats, Floats], span: Any
    ) -> tuple[Floats, tuple[float, float]]:
        scores = floats.dot_rows(keys[0][span], query[None], self.isa)[0] * keys[1][span]
        weights, sums = floats.softmax_sums(scores, self.isa)
        start = np.zeros((1, len(query)), np.float32)
        weighted = (weights * values[1][span])[None]
        return floats.add_weighted_rows(values[0][span], weighted, start, self.isa)[0], sums

    def _placed(self, layer: int, part: str, x: Floats, factor: float) -> Floats:
        """Heads [tokens, heads, head_dim], normalized and rotated to their positions."""
        config = self.config
        heads = x.reshape(len(x), -1, config.head_dim)
        if config.qk_norm:
            norm = f"layers.{layer}.attention.{part}_norm"
            heads = np.stack([self._norm(norm, token) for token in heads])
        frequencies, attention_factor = config.inverse_frequencies, config.rope_attention_factor
        if config.layer_windows[layer] is not None and config.rope_local_theta is not None:
            frequencies, attention_factor = config.local_inverse_frequencies, 1.0
        return np.stack(
            [
                [
                    floats.rotate(head, position, frequencies, attention_factor, factor, self.isa)
                    for head in token
                ]
                for position, token in enumerate(heads)
            ]
        )


def _product_with_floats(x: Floats, weight: TernaryTensor) -> Floats:
    """In the order of ternary_kernels.hpp: four sums of every fourth column, group by group."""
    scales = weight.scales.reshape(-1, 1) if weight.scales.ndim < 2 else weight.scales
    total = np.zeros((len(x), len(weight.codes)), np.float32)
    for group, start in enumerate(range(0, x.shape[1], weight.group_size)):
        columns = range(start, min(start + weight.group_size, x.shape[1]))
        sums = np.zeros((4, *total.shape), np.float32)
        for column in columns:
            sums[column % 4] += x[:, column, None] * weight.codes[:, column].astype(np.float32)
        total += ((sums[0] + sums[2]) + (sums[1] + sums[3])) * scales[:, group]
    return total
