"""Attention over long contexts and over int8 keys and values: one order of sums, however work is split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from random_decoders import GROUPED, Feeder, assert_same_bits, logits_of, packed_model, random_tokens
from stepwise_decoder import SPAN, StepwiseDecoder
from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels import floats
from tercet.kernels.decoder import Decoder, KvCache

ISAS = _core.available_isas()
TOKENS = 2 * SPAN + 40  # three spans, the last one short
CONFIG = dataclasses.replace(GROUPED, max_context=TOKENS)
WINDOWED = dataclasses.replace(CONFIG, sliding_window=SPAN + 10)
MODEL = packed_model(CONFIG)


@pytest.mark.parametrize("dtype", ["f32", "int8"])
@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["whole", "window"])
def test_contexts_of_several_spans_are_merged_in_the_stated_order(config: object, dtype: str) -> None:
    tokens = random_tokens(config, TOKENS)
    expected = StepwiseDecoder(config, MODEL, ISAS[-1], dtype).logits(tokens)
    for isa in ISAS:
        assert_same_bits(logits_of(Decoder(config, MODEL, 2, isa), tokens, dtype=dtype), expected)


@pytest.mark.parametrize("dtype", ["f32", "f16", "int8"])
def test_threads_share_spans_without_a_trace(dtype: str) -> None:
    """A single token with a long context is shared span by span, a prompt token by token."""
    tokens = random_tokens(CONFIG, TOKENS)
    expected = logits_of(Decoder(CONFIG, MODEL, 1, "reference"), tokens, dtype=dtype)
    for threads in (1, 2, 5):
        for block_tokens in (1, 16, 37):
            feeder = Feeder(Decoder(CONFIG, MODEL, threads), block_tokens, num_blocks=2 * TOKENS, dtype=dtype)
            feeder.feed({"mine": tokens[: TOKENS - 3]})
            for token in tokens[TOKENS - 3 :]:
                feeder.feed({"mine": [token], "other": tokens[:1]})
            assert_same_bits(feeder.result("mine"), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_merging_averages_is_averaging_over_all(isa: str) -> None:
    random = np.random.default_rng(3)
    scores, values = random.normal(size=300).astype(np.float32) * 5, random.normal(size=(300, 7))
    parts = []
    for part in (np.s_[:130], np.s_[130:]):
        weights, sums = floats.softmax_sums(scores[part], isa)
        parts.append(((weights @ values[part]).astype(np.float32), sums))
    merged, (greatest, total) = floats.merge_softmax(*parts[0], *parts[1], isa)
    exact = np.exp(scores.astype(np.float64) - scores.max())
    np.testing.assert_allclose(merged, exact / exact.sum() @ values, rtol=1e-4, atol=1e-6)
    assert greatest == scores.max()
    assert total == pytest.approx(exact.sum(), rel=1e-6)


def test_int8_keys_and_values_stay_near_the_exact_ones() -> None:
    tokens = random_tokens(CONFIG, 200)
    exact = logits_of(Decoder(CONFIG, MODEL), tokens)
    rounded = logits_of(Decoder(CONFIG, MODEL), tokens, dtype="int8")
    assert 0 < np.sqrt(np.mean((rounded - exact) ** 2)) < 0.1 * np.std(exact)


def test_an_int8_cache_takes_a_byte_a_number_and_a_scale_a_head() -> None:
    decoder = Decoder(CONFIG, MODEL)
    cache = KvCache(decoder, 3, 16, "int8")
    rows = 2 * CONFIG.num_layers * CONFIG.num_kv_heads * 3 * 16
    assert cache.nbytes == rows * (CONFIG.head_dim + 4)
    assert cache.dtype == "int8"
    with pytest.raises(ParameterError, match="dtype should be 'f32', 'f16' or 'int8'"):
        KvCache(decoder, 3, 16, "f8")


def test_the_profile_says_where_the_time_went() -> None:
    decoder = Decoder(CONFIG, MODEL)
    assert set(decoder.profile().values()) == {0.0}
    logits_of(decoder, random_tokens(CONFIG, 20))
    profile = decoder.profile()
    assert decoder.steps >= 1
    assert min(profile.values()) > 0
    assert {"query_key_value", "attention", "gate_up", "down", "output_head"} < set(profile)
