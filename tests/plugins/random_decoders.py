"""Small random decoders, and ways to feed one: whole, in chunks, token by token, beside others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.config import ModelConfig, shape
from tercet.models.random_weights import random_weights
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.ternary_tensor import TernaryTensor

Logits = npt.NDArray[np.float32]

# Sizes that are no multiple of a vector, a tile or each other, and every option both ways.
GROUPED = dataclasses.replace(
    shape("2b4t"), hidden_size=96, ffn_size=208, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=32,
    vocab_size=301, max_context=512, bos_token_id=0, eos_token_ids=(1,),
)  # fmt: skip
SILU_UNTIED = dataclasses.replace(
    GROUPED, hidden_size=64, ffn_size=150, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=18,
    activation="silu", attention_sub_norm=False, ffn_sub_norm=False, tied_embeddings=False,
    rope_theta=10_000.0, rms_norm_eps=1e-6,
)  # fmt: skip
ONE_KV_HEAD = dataclasses.replace(
    GROUPED, hidden_size=192, ffn_size=333, num_layers=2, num_heads=5, num_kv_heads=1, head_dim=48,
    ffn_sub_norm=False,
)  # fmt: skip
CONFIGS = {"grouped": GROUPED, "silu, untied": SILU_UNTIED, "one kv head": ONE_KV_HEAD}


def packed_model(
    config: ModelConfig, packing: str = "two_bit", head_type: str = "f32", seed: int = 0
) -> dict[str, PackedMatrix | FloatMatrix]:
    """The matrices of `random_weights(config, seed)` as the decoder takes them."""
    form = packing_of(packing)
    matrices: dict[str, PackedMatrix | FloatMatrix] = {}
    for name, weight in random_weights(config, seed).items():
        if isinstance(weight, TernaryTensor):
            rows, depth = weight.shape
            matrices[name] = PackedMatrix(
                packing, rows, depth, form.pack(weight.codes), weight.scales.reshape(-1)
            )
        else:
            rows, depth = np.atleast_2d(weight).shape
            kind = head_type if rows > 1 else "f32"
            matrices[name] = FloatMatrix(kind, rows, depth, from_float32(weight, kind).reshape(-1))
    return matrices


def random_tokens(config: ModelConfig, count: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Token ids of the vocabulary, drawn evenly."""
    return np.random.default_rng(seed).integers(config.vocab_size, size=count, dtype=np.int32)


class Feeder:
    """Feeds sequences to a decoder and keeps what a scheduler would: lengths, block tables, logits."""

    def __init__(
        self, decoder: Decoder, block_tokens: int = 16, dtype: str = "f32", num_blocks: int = 64
    ) -> None:
        self.decoder = decoder
        self.cache = KvCache(decoder, num_blocks, block_tokens, dtype)
        self._free = list(range(num_blocks))[::-1]
        self._blocks: dict[str, list[int]] = {}
        self._lengths: dict[str, int] = {}
        self.logits: dict[str, list[Logits]] = {}

    def feed(self, parts: dict[str, Sequence[int] | npt.NDArray[np.int32]]) -> None:
        """One forward call: the next tokens of each named sequence."""
        for name, tokens in parts.items():
            owned = self._blocks.setdefault(name, [])
            needed = -(-(self._lengths.setdefault(name, 0) + len(tokens)) // self.cache.block_tokens)
            while len(owned) < needed:
                owned.append(self._free.pop())
        tables = np.full((len(parts), max(len(self._blocks[name]) for name in parts)), -1, np.int32)
        for row, name in zip(tables, parts, strict=True):
            row[: len(self._blocks[name])] = self._blocks[name]
        sizes = [len(tokens) for tokens in parts.values()]
        starts = np.cumsum([0, *sizes])
        logits = self.decoder.forward(
            self.cache,
            np.concatenate([np.asarray(tokens, np.int32) for tokens in parts.values()]),
            starts,
            [self._lengths[name] for name in parts],
            tables,
            np.arange(starts[-1]),
        )
        for name, start, size in zip(parts, starts, sizes, strict=False):
            self.logits.setdefault(name, []).append(logits[start : start + size])
            self._lengths[name] += size

    def result(self, name: str) -> Logits:
        """The logits of a sequence so far, float32 [tokens, vocab]."""
        return np.concatenate(self.logits[name])


def logits_of(decoder: Decoder, tokens: Sequence[int] | npt.NDArray[np.int32], **cache: object) -> Logits:
    """Logits after every token of one sequence, in one call."""
    feeder = Feeder(decoder, **cache)  # type: ignore[arg-type]
    feeder.feed({"alone": tokens})
    return feeder.result("alone")


def assert_same_bits(got: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> None:
    """Equal as bits: zeros of the same sign, and the same NaNs."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()
