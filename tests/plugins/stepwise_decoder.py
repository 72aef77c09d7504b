"""The C++ decoder taken apart: its kernels called one by one from Python, with every int8 code kept.

Because each kernel states its order of sums, this gives the logits of `Decoder.forward` bit for bit. So it
shows that fusing, splitting over threads and paging change nothing, and it knows which codes were computed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.kernels import floats
from tercet.models.config import ModelConfig

Floats = npt.NDArray[np.float32]


class StepwiseDecoder:
    """One sequence, all positions at once, f32 keys and values."""

    def __init__(
        self, config: ModelConfig, model: Mapping[str, PackedMatrix | FloatMatrix], isa: str
    ) -> None:
        self.config = config
        self.isa = isa
        self.codes: list[npt.NDArray[np.int8]] = []
        """The input codes [tokens, depth] of each linear layer, in the order q k v o gate up down."""
        self._weights = {
            name: matrix.unpack() if isinstance(matrix, PackedMatrix) else matrix.float32()
            for name, matrix in model.items()
        }

    def logits(self, token_ids: npt.NDArray[np.int32]) -> Floats:
        config = self.config
        x = self._weights["embedding"][token_ids]
        for layer in range(config.num_layers):
            name = f"layers.{layer}."
            h = self._norm(name + "attention_norm", x)
            q, k, v = (self._linear(name + "attention." + part, h) for part in "qkv")
            x = x + self._linear(
                name + "attention.o", self._sub_norm(name + "attention.sub_norm", self._attend(q, k, v))
            )
            h = self._norm(name + "ffn_norm", x)
            gate, up = (self._linear(name + "ffn." + part, h) for part in ("gate", "up"))
            gated = np.stack(
                [floats.gated(g, u, config.activation, self.isa) for g, u in zip(gate, up, strict=True)]
            )
            x = x + self._linear(name + "ffn.down", self._sub_norm(name + "ffn.sub_norm", gated))
        head = self._weights["embedding" if config.tied_embeddings else "output_head"]
        return floats.dot_rows(head, self._norm("final_norm", x), self.isa)

    def _norm(self, name: str, x: Floats) -> Floats:
        weight = self._weights[name].ravel()
        return np.stack([floats.rms_norm(row, weight, self.config.rms_norm_eps, self.isa) for row in x])

    def _sub_norm(self, name: str, x: Floats) -> Floats:
        return self._norm(name, x) if name in self._weights else x

    def _linear(self, name: str, x: Floats) -> Floats:
        weight = self._weights[name]
        quantized = [floats.quantize(row, self.isa) for row in x]
        codes = np.stack([codes for codes, _, _ in quantized])
        self.codes.append(codes)
        sums = codes.astype(np.int32) @ weight.codes.T.astype(np.int32)
        scales = np.atleast_1d(weight.scales)
        return np.stack(
            [
                floats.rescale(row, scale, scales, isa=self.isa)
                for row, (_, scale, _) in zip(sums, quantized, strict=True)
            ]
        )

    def _attend(self, query: Floats, key: Floats, value: Floats) -> Floats:
        config = self.config
        group = config.num_heads // config.num_kv_heads
        query = self._rotate(query, config.num_heads, float(1 / np.sqrt(config.head_dim)))
        key = self._rotate(key, config.num_kv_heads, 1.0)
        value = value.reshape(len(value), config.num_kv_heads, config.head_dim)
        out = np.empty_like(query)
        for token in range(len(query)):
            for head in range(config.num_heads):
                past = np.s_[: token + 1, head // group]
                scores = floats.dot_rows(key[past], query[token, head : head + 1], self.isa)[0]
                weights = floats.softmax(scores, self.isa)[None]
                start = np.zeros((1, config.head_dim), np.float32)
                out[token, head] = floats.add_weighted_rows(value[past], weights, start, self.isa)[0]
        return out.reshape(len(query), config.query_size)

    def _rotate(self, x: Floats, heads: int, factor: float) -> Floats:
        split = x.reshape(len(x), heads, self.config.head_dim)
        theta = self.config.rope_theta
        return np.stack(
            [
                [floats.rotate(head, position, theta, factor, self.isa) for head in token]
                for position, token in enumerate(split)
            ]
        )
