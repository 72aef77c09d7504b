"""Whatever is wrong with a decoder's arguments is an error that names it, before anything is computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from random_decoders import GROUPED, packed_model, random_tokens
from tercet.errors import IsaError, ParameterError, UnsupportedModelError
from tercet.kernels.decoder import Decoder, KvCache

MODEL = packed_model(GROUPED)
DECODER = Decoder(GROUPED, MODEL)
CACHE = KvCache(DECODER, num_blocks=8)

GOOD: dict[str, Any] = {
    "token_ids": [1, 2, 3, 4, 5],
    "sequence_starts": [0, 2, 5],
    "context_lengths": [15, 0],
    "block_tables": [[0, 1], [2, -1]],
    "logit_rows": [1, 4],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": [1, 2, 301, 4, 5]}, r"token_ids\[2\] should be 0 to 300, got 301"),
        ({"token_ids": [1, 2, -1, 4, 5]}, r"token_ids\[2\] should be 0 to 300, got -1"),
        ({"token_ids": [1.0, 2, 3, 4, 5]}, "token_ids should be 1-dimensional whole numbers, got float64"),
        (
            {"token_ids": [[1, 2, 3, 4, 5]]},
            r"token_ids should be 1-dimensional whole numbers, got int64 \[1, 5\]",
        ),
        ({"token_ids": [2**40, 2, 3, 4, 5]}, "token_ids should fit 32 bits"),
        ({"token_ids": []}, r"sequence_starts\[2\] should be the number of tokens, 0, got 5"),
        ({"sequence_starts": [0]}, "sequence_starts should be at least two numbers, got 1"),
        ({"sequence_starts": []}, "sequence_starts should be at least two numbers, got 0"),
        ({"sequence_starts": [1, 2, 5]}, r"sequence_starts\[0\] should be 0, got 1"),
        ({"sequence_starts": [0, 0, 5]}, r"sequence_starts\[1\] should be above 0, got 0"),
        ({"sequence_starts": [0, 6, 5]}, r"sequence_starts\[2\] should be above 6, got 5"),
        ({"sequence_starts": [0, 2, 4]}, r"sequence_starts\[2\] should be the number of tokens, 5, got 4"),
        ({"sequence_starts": [0, 5]}, "context_lengths should be 1 numbers, one per sequence, got 2"),
        ({"context_lengths": [15, -1]}, r"context_lengths\[1\] should be at least 0, got -1"),
        ({"context_lengths": [511, 0]}, "sequence 0 should be at most 512 tokens long, .* got 513"),
        ({"context_lengths": [2**31 - 1, 0]}, "sequence 0 should be at most 512 tokens long"),
        ({"context_lengths": [31, 0]}, "block_tables should be at least 3 blocks wide for sequence 0, got 2"),
        ({"block_tables": [[0, 1]]}, "block_tables should be 2 rows, one per sequence, got 1"),
        ({"block_tables": [[0, -1], [2, -1]]}, r"block_tables\[0, 1\] should be 0 to 7, got -1"),
        ({"block_tables": [[0, 8], [2, -1]]}, r"block_tables\[0, 1\] should be 0 to 7, got 8"),
        ({"block_tables": [[0, 1], [1, -1]]}, r"block_tables\[1, 0\] should be a block that nothing else"),
        ({"block_tables": [[0, 0], [2, -1]]}, r"block_tables\[0, 1\] should be a block that nothing else"),
        (
            {"context_lengths": [16, 0], "block_tables": [[2, 1], [2, -1]]},
            r"block_tables\[0, 0\] should be a block that nobody writes .* block 2, which sequence 1",
        ),
        ({"block_tables": [0, 1]}, "block_tables should be 2-dimensional"),
        ({"logit_rows": [5]}, r"logit_rows\[0\] should be 0 to 4, got 5"),
        ({"logit_rows": [-1]}, r"logit_rows\[0\] should be 0 to 4, got -1"),
    ],
)
def test_bad_batches(changes: dict[str, Any], message: str) -> None:
    for call, name in (
        (DECODER.forward, "Decoder.forward"),
        (DECODER.hidden_states, "Decoder.hidden_states"),
    ):
        with pytest.raises(ParameterError, match=message) as error:
            call(CACHE, **GOOD | changes)
        assert str(error.value).startswith(f"{name}: ")


def test_the_good_batch_is_good() -> None:
    assert DECODER.forward(CACHE, **GOOD).shape == (2, GROUPED.vocab_size)


def test_a_cache_of_another_model() -> None:
    other = dataclasses.replace(GROUPED, num_layers=2)
    cache = KvCache(Decoder(other, packed_model(other)), 8)
    with pytest.raises(
        ParameterError, match="cache should be one made for this decoder, got 2 layers of 2 heads of 32"
    ):
        DECODER.forward(cache, **GOOD)


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return MODEL | {name: dataclasses.replace(MODEL[name], **fields)}


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (
            {name: matrix for name, matrix in MODEL.items() if name != "layers.1.ffn.up"},
            "tensors should be a mapping with layers.1.ffn.up, got none",
        ),
        (
            MODEL | {"layers.0.attention.q": MODEL["layers.0.attention.k"]},
            r"layers.0.attention.q should be \[192, 96\], got \[64, 96\]",
        ),
        (
            MODEL | {"layers.0.attention.q": MODEL["embedding"]},
            r"layers.0.attention.q should be \[192, 96\], got \[301, 96\]",
        ),
        (
            MODEL | {"embedding": MODEL["layers.0.attention.q"]},
            r"embedding should be \[301, 96\], got \[192, 96\]",
        ),
        (
            MODEL | {"final_norm": MODEL["embedding"]},
            "final_norm should be a FloatMatrix of one row, got 301 rows",
        ),
        (
            MODEL | {"final_norm": MODEL["layers.0.ffn.sub_norm"]},
            r"final_norm should be \[1, 96\], got \[1, 208\]",
        ),
        (changed("embedding", depth=95), "data should be 301 x 95 elements, got 28896"),
        (changed("embedding", type="f64"), "type should be 'f32', 'f16' or 'bf16', got 'f64'"),
        (changed("embedding", type="bf16"), "data of type bf16 should be uint16"),
        (changed("layers.0.ffn.up", packing="three_bit"), "packing should be 'two_bit' or 'five_per_byte'"),
        (
            changed("layers.0.ffn.up", depth=97),
            "packed should be 5824 bytes for 208 rows of depth 97, got 4992",
        ),
    ],
)
def test_bad_matrices(matrices: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Decoder(GROUPED, matrices)


def test_scales_that_fit_no_groups() -> None:
    with pytest.raises(ParameterError, match=r"layers\.0\.ffn\.up has 207 scales, expected 1, one for each"):
        Decoder(GROUPED, changed("layers.0.ffn.up", scales=np.ones(207, np.float32)))
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.ffn\.up has a scale for every 8 columns"):
        Decoder(GROUPED, changed("layers.0.ffn.up", scales=np.ones(208 * 12, np.float32)))


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_bad_thread_counts(threads: int) -> None:
    with pytest.raises(ParameterError, match="threads should be 1 to 1024"):
        Decoder(GROUPED, MODEL, threads)


def test_an_unknown_instruction_set() -> None:
    with pytest.raises(IsaError, match="avx1024"):
        Decoder(GROUPED, MODEL, isa="avx1024")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "at least one block of one token, not 0 of 16"),
        ((4, 0), "at least one block of one token, not 4 of 0"),
        ((2**62,), "fit into memory"),
        ((4, 16, "f64"), "dtype should be 'f32', 'f16' or 'int8', got 'f64'"),
    ],
)
def test_bad_caches(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        KvCache(DECODER, *arguments)


def test_a_generous_cache_costs_no_memory_until_it_is_written() -> None:
    cache = KvCache(DECODER, num_blocks=2**20, dtype="f16")  # 24 GiB of addresses
    assert cache.nbytes == 2**20 * 16 * GROUPED.kv_size * GROUPED.num_layers * 2 * 2
    tokens = random_tokens(GROUPED, 16)
    logits = DECODER.forward(cache, tokens, [0, 16], [0], [[2**20 - 1]], [15])
    assert np.isfinite(logits).all()
