"""The model to beat: bitllama2.c's ternary models (HKUSTGZ-MICS-LYU, MIT), measured on our validation text.

    cd recipes/llama_tercet_tiny
    python baseline.py --models DIR tinystories_valid.jsonl

DIR holds `outmini_bit_3M_bit_model.bin` and `tokenizer.model` of github.com/HKUSTGZ-MICS-
LYU/bitllama2.c. The forward pass is NumPy, written from the file format: 256 bytes of header ("ak42",
version, dim, hidden, layers, heads, kv heads, vocabulary, context), float32 final norm and tied
embeddings, then by kind and layer a float32 scale and 2-bit codes, most significant first (01 = +1, 11 =
-1). Their BitLinear divides its input by its length and by sqrt(depth), then rounds it to int8. Like
`tercet eval perplexity`, every document starts anew with BOS.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor

BOS = 1
Array = np.ndarray[Any, np.dtype[np.float32]]


class BitLlama:
    """One model file and its forward pass."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        header = struct.unpack_from("<4si7I", data)
        magic, _, self.dim, hidden, layers, self.heads, self.kv_heads, vocabulary, self.context = header
        if magic != b"24ka":
            raise SystemExit(f"{path} is no model of bitllama2.c")
        self.head_dim = self.dim // self.heads
        offset = 256
        self.norm = np.frombuffer(data, "<f4", self.dim, offset)
        offset += 4 * self.dim
        self.embedding = np.frombuffer(data, "<f4", vocabulary * self.dim, offset).reshape(
            vocabulary, self.dim
        )
        offset += 4 * vocabulary * self.dim
        kv = self.kv_heads * self.head_dim
        shapes = {
            "q": (self.dim, self.dim), "k": (kv, self.dim), "v": (kv, self.dim), "o": (self.dim, self.dim),
            "gate": (hidden, self.dim), "down": (self.dim, hidden), "up": (hidden, self.dim),
        }  # fmt: skip
        self.layers: list[dict[str, Array]] = [{} for _ in range(layers)]
        for name, (rows, depth) in shapes.items():
            for layer in self.layers:
                (scale,) = struct.unpack_from("<f", data, offset)
                codes = np.frombuffer(data, np.uint8, rows * depth // 4, offset + 4)
                offset += 4 + len(codes)
                fields = (codes[:, None] >> np.array([6, 4, 2, 0], np.uint8)) & 3
                ternary = np.array([0, 1, 0, -1], np.float32)[fields].reshape(rows, depth)
                layer[name] = (ternary * np.float32(scale)).astype(np.float32)

    def logits(self, ids: list[int]) -> Array:
        """Logits [tokens, vocabulary]."""
        x = self.embedding[ids]
        future = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), 1)
        for layer in self.layers:
            query, key = self._rotate(_linear(x, layer["q"])), self._rotate(_linear(x, layer["k"]))
            value = _linear(x, layer["v"]).reshape(len(ids), -1, self.head_dim)
            group = self.heads // self.kv_heads
            key, value = key.repeat(group, 1), value.repeat(group, 1)
            scores = np.einsum("thd,shd->hts", query, key) / math.sqrt(self.head_dim) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + _linear(np.einsum("hts,shd->thd", scores, value).reshape(len(ids), -1), layer["o"])
            gate = _linear(x, layer["gate"])
            x = x + _linear(gate / (1 + np.exp(-gate)) * _linear(x, layer["up"]), layer["down"])
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.norm
        logits: Array = (x @ self.embedding.T).astype(np.float32)
        return logits

    def _rotate(self, x: Array) -> Array:
        """Rotary embedding over neighbouring pairs, on [tokens, heads, head_dim]."""
        x = x.reshape(len(x), -1, self.head_dim)
        frequencies = 10000.0 ** -(np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.outer(np.arange(len(x)), frequencies)[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        rotated = np.empty_like(x)
        rotated[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        rotated[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return rotated


def _linear(x: Array, weights: Array) -> Array:
    x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) * x.shape[-1] ** -0.5
    scale = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
    product: Array = (np.clip(np.rint(x * scale), -128, 127) @ weights.T / scale).astype(np.float32)
    return product


def main() -> None:
    """Print nats per token and per byte."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("text", type=Path)
    arguments = parser.parse_args()
    model = BitLlama(arguments.models / "outmini_bit_3M_bit_model.bin")
    tokenizer = SentencePieceProcessor(str(arguments.models / "tokenizer.model"))
    nats, tokens, num_bytes = 0.0, 0, 0
    for line in arguments.text.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        ids = [BOS, *tokenizer.encode(text)]
        for start in range(0, len(ids) - 1, model.context - 1):
            window = ids[start : start + model.context]
            logits = model.logits(window[:-1]).astype(np.float64)
            logits -= logits.max(-1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
            nats -= logits[np.arange(len(window) - 1), window[1:]].sum()
        tokens += len(ids) - 1
        num_bytes += len(text.encode())
    print(f"{nats / tokens:.4f} nats a token, {nats / num_bytes:.4f} nats a byte, {num_bytes} bytes")


if __name__ == "__main__":
    main()
