"""Small random decoders, and ways to feed one: whole, in chunks, token by token, beside others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.config import ModelConfig
from tercet.models.random_weights import RandomStyle, random_weights
from tercet.models.rope_scaling import RopeScaling
from tercet.models.rotation import Rotation
from tercet.models.shapes import shape
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.ternary_tensor import TernaryTensor

Logits = npt.NDArray[np.float32]

# Sizes that are no multiple of a vector, a tile or each other, and every option of BitNet both ways.
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
# The other families, each with what it alone has. Dimensions of 100 and 24 are no multiples of a vector.
LLAMA = dataclasses.replace(
    SILU_UNTIED, hidden_size=100, num_heads=3, num_kv_heads=3, head_dim=100,
    rope_scaling=RopeScaling(
        kind="llama3", factor=8.0, original_max_context=64, low_freq_factor=1.0, high_freq_factor=4.0
    ),
)  # fmt: skip
QWEN3 = dataclasses.replace(
    SILU_UNTIED, architecture="qwen3", num_kv_heads=2, head_dim=32, tied_embeddings=True, qk_norm=True,
    rope_scaling=RopeScaling(
        kind="yarn", factor=4.0, original_max_context=64, beta_fast=32.0, beta_slow=1.0,
        attention_factor=1.1386,
    ),
)  # fmt: skip
ROTATED = dataclasses.replace(
    QWEN3, ffn_size=160, num_layers=2, rope_scaling=None, tied_embeddings=False,
    rotation=Rotation.of_signs(
        32,
        ["output_head", *(f"layers.{layer}.{part}" for layer in (0, 1) for part in (
            "attention.q", "attention.k", "attention.v", "attention.o", "ffn.gate", "ffn.up", "ffn.down"
        ))],
        ["embedding"],
        {width: np.random.default_rng(width).choice([-1, 1], width) for width in (64, 128, 160)},
    ),
)  # fmt: skip
EMBEDDING = dataclasses.replace(
    QWEN3, rope_scaling=None, projection_norms=True, projection_norm_eps=1e-3, pooling="last"
)
GEMMA3 = dataclasses.replace(
    ONE_KV_HEAD, architecture="gemma3", num_layers=4, hidden_size=72, ffn_size=140, head_dim=24,
    activation="gelu_tanh", attention_sub_norm=False, ffn_sub_norm=False, qk_norm=True, post_norms=True,
    projection_norms=True, embedding_scale=8.485, attention_scale=0.3, sliding_window=11, sliding_pattern=3,
    rope_local_theta=10_000.0, rms_norm_eps=1e-6,
)  # fmt: skip
CONFIGS = {
    "grouped": GROUPED,
    "silu, untied": SILU_UNTIED,
    "one kv head": ONE_KV_HEAD,
    "llama": LLAMA,
    "qwen3": QWEN3,
    "rotated": ROTATED,
    "embedding": EMBEDDING,
    "gemma3": GEMMA3,
}


def packed_model(
    config: ModelConfig,
    packing: str = "two_bit",
    head_type: str = "f32",
    seed: int = 0,
    style: RandomStyle | None = None,
) -> dict[str, PackedMatrix | FloatMatrix]:
    """The matrices of `random_weights(config, seed, style)` as the decoder takes them."""
    form = packing_of(packing)
    matrices: dict[str, PackedMatrix | FloatMatrix] = {}
    for name, weight in random_weights(config, seed, style).items():
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
        self,
        decoder: Decoder,
        block_tokens: int = 16,
        dtype: str = "f32",
        num_blocks: int = 64,
        hidden_states: bool = False,
        make_cache: Callable[..., KvCache] = KvCache,
    ) -> None:
        self.compute = decoder.hidden_states if hidden_states else decoder.forward
        self.cache = make_cache(decoder, num_blocks, block_tokens, dtype)
        self._free = list(range(num_blocks))[::-1]
        self._blocks: dict[str, list[int]] = {}
        self._lengths: dict[str, int] = {}
        self.logits: dict[str, list[Logits]] = {}

    def feed(self, parts: dict[str, Sequence[int] | npt.NDArray[np.int32]]) -> None:
        """One call: the next tokens of each named sequence."""
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
        logits = self.compute(
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
