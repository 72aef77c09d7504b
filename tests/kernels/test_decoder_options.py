"""Every option of the decoder, alone and with others: the reference's numbers, and the same bits always."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_decoders import (
    CONFIGS,
    EMBEDDING,
    GEMMA3,
    GROUPED,
    LLAMA,
    QWEN3,
    ROTATED,
    Feeder,
    assert_same_bits,
    logits_of,
    packed_model,
    random_tokens,
)
from stepwise_decoder import StepwiseDecoder
from tercet import _core
from tercet.errors import ParameterError
from tercet.formats.matrices import FloatMatrix
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.config import ModelConfig
from tercet.models.random_weights import RandomStyle, random_weights
from tercet.models.rope_scaling import RopeScaling
from tercet.models.rotation import Rotation
from tercet.reference import ReferenceDecoder

ISAS = _core.available_isas()
PARTS = ("attention.q", "attention.k", "attention.v", "attention.o", "ffn.gate", "ffn.up", "ffn.down")
SCALINGS = (
    None,
    RopeScaling(kind="linear", factor=3.0),
    LLAMA.rope_scaling,
    QWEN3.rope_scaling,
)


def rotations(config: ModelConfig) -> st.SearchStrategy[Rotation]:
    """Any matrices turned, by blocks that divide every width, with and without signs."""
    head = "embedding" if config.tied_embeddings else "output_head"
    names = [head, *(f"layers.{layer}.{part}" for layer in range(config.num_layers) for part in PARTS)]
    widths = {config.hidden_size, config.query_size, config.ffn_size}
    random = np.random.default_rng(0)
    signs = {width: random.choice(np.array([-1, 1], np.int8), width) for width in widths}
    return st.builds(
        Rotation.of_signs,
        st.sampled_from([2, 16]),
        st.one_of(st.just(names), st.lists(st.sampled_from(names), unique=True)),
        st.sampled_from([(), ("embedding",)]),
        st.sampled_from([None, signs]),
    )


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Small decoders with any options."""
    flag, some_scale = st.booleans(), st.sampled_from([None, 0.07, 0.5])
    heads = draw(st.sampled_from([(1, 1), (4, 2), (3, 1), (2, 2)]))
    head_dim = draw(st.sampled_from([16, 20, 34, 48]))
    blocks_of_16 = draw(flag)  # groups of scales and rotations need them
    hidden, ffn = (48, 80) if blocks_of_16 else draw(st.sampled_from([(36, 50), (64, 101)]))
    window = draw(st.sampled_from([None, 1, 5, 16]))
    config = ModelConfig(
        hidden_size=hidden, ffn_size=ffn, num_layers=draw(st.integers(1, 3)), num_heads=heads[0],
        num_kv_heads=heads[1], head_dim=16 if blocks_of_16 else head_dim, vocab_size=67, max_context=128,
        rope_theta=10_000.0, rms_norm_eps=1e-6,
        activation=draw(st.sampled_from(["relu2", "silu", "gelu_tanh"])),
        attention_sub_norm=draw(flag), ffn_sub_norm=draw(flag), tied_embeddings=draw(flag),
        quantize_activations=draw(flag), qk_norm=draw(flag), projection_norms=draw(flag),
        projection_norm_eps=draw(st.sampled_from([None, 1e-2])), post_norms=draw(flag),
        embedding_scale=draw(st.sampled_from([1.0, 6.0])), attention_scale=draw(some_scale),
        rope_scaling=draw(st.sampled_from(SCALINGS)), sliding_window=window,
        sliding_pattern=None if window is None else draw(st.sampled_from([None, 1, 2])),
        rope_local_theta=draw(st.sampled_from([None, 500.0])), bos_token_id=0, eos_token_ids=(1,),
    )  # fmt: skip
    if blocks_of_16 and draw(flag):
        config = dataclasses.replace(config, rotation=draw(rotations(config)))
    return config


@st.composite
def styles(draw: st.DrawFn, config: ModelConfig) -> RandomStyle:
    """How the matrices of such a decoder may be made."""
    in_blocks = all(size % 16 == 0 for size in (config.hidden_size, config.query_size, config.ffn_size))
    return RandomStyle(
        granularity=draw(st.sampled_from(["tensor", "row", "group"] if in_blocks else ["tensor", "row"])),
        group_size=16,
        binary=draw(st.booleans()),
        ternary_embeddings=draw(st.booleans()),
    )


def in_pieces(decoder: Decoder, tokens: np.ndarray, sizes: list[int], **cache: Any) -> np.ndarray:
    feeder = Feeder(decoder, num_blocks=128, **cache)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        feeder.feed({"other": tokens[:2], "mine": tokens[end - size : end]})
    return feeder.result("mine")


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_options_together(data: st.DataObject) -> None:
    config = data.draw(configs())
    style = data.draw(styles(config))
    seed, isa = data.draw(st.integers(0, 99)), data.draw(st.sampled_from(ISAS))
    packing = data.draw(st.sampled_from(["two_bit", "five_per_byte"]))
    tokens = random_tokens(config, 24, seed)
    model = packed_model(config, packing, seed=seed, style=style)
    expected = StepwiseDecoder(config, model, isa).logits(tokens)
    decoder = Decoder(config, model, data.draw(st.integers(1, 2)), isa)
    assert_same_bits(logits_of(decoder, tokens), expected)
    sizes = data.draw(st.sampled_from([[1] * 24, [5, 19], [20, 1, 3]]))
    assert_same_bits(in_pieces(decoder, tokens, sizes, block_tokens=data.draw(st.integers(1, 9))), expected)
    if not config.quantize_activations:
        reference = ReferenceDecoder(config, dict(random_weights(config, seed, style))).logits(tokens)
        assert np.abs(expected - reference).max() < 3e-5 * np.abs(reference).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_without_int8_activations_logits_are_close_to_the_reference_s(name: str) -> None:
    config = dataclasses.replace(CONFIGS[name], quantize_activations=False)
    tokens = random_tokens(config, 60)
    expected = ReferenceDecoder(config, random_weights(config)).logits(tokens)
    got = logits_of(Decoder(config, packed_model(config), 2), tokens)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (QWEN3, {"qk_norm": False}),
        (QWEN3, {"rope_scaling": None}),
        (LLAMA, {"rope_scaling": None}),
        (EMBEDDING, {"projection_norms": False}),
        (EMBEDDING, {"projection_norm_eps": None}),
        (ROTATED, {"rotation": None}),
        (GEMMA3, {"post_norms": False}),
        (GEMMA3, {"embedding_scale": 1.0}),
        (GEMMA3, {"attention_scale": None}),
        (GEMMA3, {"activation": "silu"}),
        (GEMMA3, {"sliding_pattern": None}),
        (GEMMA3, {"sliding_pattern": None, "sliding_window": None}),
        (GEMMA3, {"sliding_window": 12}),
        (GEMMA3, {"rope_local_theta": None}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value.architecture,
)
def test_every_option_is_heard(config: ModelConfig, changes: dict[str, Any]) -> None:
    """What the reference agrees with is not the same as without the option."""
    tokens = random_tokens(config, 40)
    model = packed_model(config)
    with_option = logits_of(Decoder(config, model), tokens)
    without = logits_of(Decoder(dataclasses.replace(config, **changes), model), tokens)
    assert np.sqrt(np.mean((with_option - without) ** 2)) > 1e-2 * with_option.std()


@pytest.mark.parametrize("name", ["grouped", "gemma3"])
@pytest.mark.parametrize("isa", ISAS)
def test_matrices_that_stayed_floats(name: str, isa: str) -> None:
    config, model = CONFIGS[name], packed_model(CONFIGS[name])
    for kept in ("layers.0.attention.k", "layers.0.attention.o", "layers.1.ffn.gate", "layers.1.ffn.down"):
        weight = model[kept].unpack().dequantize()
        model[kept] = FloatMatrix("f32", *weight.shape, weight.reshape(-1))
    tokens = random_tokens(config, 20)
    expected = StepwiseDecoder(config, model, isa).logits(tokens)
    assert_same_bits(logits_of(Decoder(config, model, 2, isa), tokens), expected)
    assert_same_bits(in_pieces(Decoder(config, model, 1, isa), tokens, [1, 12, 7]), expected)


def test_a_window_that_nobody_reaches_is_none() -> None:
    wide = dataclasses.replace(GROUPED, sliding_window=40)
    model, tokens = packed_model(GROUPED), random_tokens(GROUPED, 40)
    assert_same_bits(logits_of(Decoder(wide, model), tokens), logits_of(Decoder(GROUPED, model), tokens))


def test_what_lies_before_a_window_is_not_read() -> None:
    """All layers have the window 11: twenty tokens earlier, two layers see nothing of what was there."""
    config = dataclasses.replace(GEMMA3, num_layers=2, sliding_pattern=None)
    decoder = Decoder(config, packed_model(config))
    tokens = random_tokens(config, 41)
    others = np.concatenate([tokens[:20][::-1], tokens[20:]])
    assert_same_bits(logits_of(decoder, tokens)[40], logits_of(decoder, others)[40])
    assert not np.array_equal(logits_of(decoder, tokens)[39], logits_of(decoder, others)[39])


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_are_what_the_output_head_reads(name: str) -> None:
    config, model = CONFIGS[name], packed_model(CONFIGS[name])
    tokens = random_tokens(config, 30)
    decoder = Decoder(config, model, 2)
    got = logits_of(decoder, tokens, hidden_states=True)
    assert got.shape == (30, config.hidden_size)
    assert_same_bits(got, StepwiseDecoder(config, model, decoder.isa).hidden_states(tokens))
    assert_same_bits(got, in_pieces(decoder, tokens, [7, 23], hidden_states=True))
    exact = dataclasses.replace(config, quantize_activations=False)
    expected = ReferenceDecoder(exact, random_weights(exact)).hidden_states(tokens)
    states = logits_of(Decoder(exact, model), tokens, hidden_states=True)
    assert np.abs(states - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_last_hidden_state_of_each_text_alone() -> None:
    decoder = Decoder(EMBEDDING, packed_model(EMBEDDING))
    tokens = random_tokens(EMBEDDING, 20)
    cache = KvCache(decoder, 2)
    states = decoder.hidden_states(cache, tokens, [0, 8, 20], [0, 0], [[0], [1]], [7, 19])
    assert_same_bits(states[0], logits_of(decoder, tokens[:8], hidden_states=True)[-1])
    assert_same_bits(states[1], logits_of(decoder, tokens[8:], hidden_states=True)[-1])
    with pytest.raises(ParameterError, match=r"logit_rows\[0\] should be 0 to 19, got 20"):
        decoder.hidden_states(cache, tokens, [0, 8, 20], [0, 0], [[0], [1]], [20])


@pytest.mark.parametrize("name", CONFIGS)
def test_scratch_memory_stays(name: str) -> None:
    decoder = Decoder(CONFIGS[name], packed_model(CONFIGS[name]), 2)
    feeder = Feeder(decoder)
    feeder.feed({"long": random_tokens(CONFIGS[name], 300)})
    grown = decoder.scratch_bytes
    for token in random_tokens(CONFIGS[name], 20):
        feeder.feed({"short": [token]})
    assert decoder.scratch_bytes == grown


@pytest.mark.parametrize(
    ("config", "name", "message"),
    [
        (QWEN3, "layers.1.attention.k_norm", r"layers.1.attention.k_norm should be \[1, 32\], got \[1, 64\]"),
        (EMBEDDING, "layers.0.ffn.down.input_norm", r"down.input_norm should be \[1, 150\], got \[1, 64\]"),
        (GEMMA3, "layers.3.ffn_post_norm", r"layers.3.ffn_post_norm should be \[1, 72\], got \[1, 64\]"),
    ],
)
def test_norms_of_another_size(config: ModelConfig, name: str, message: str) -> None:
    other = packed_model(QWEN3)["final_norm"]  # of 64 elements
    with pytest.raises(ParameterError, match=message):
        Decoder(config, packed_model(config) | {name: other})
    without = {key: matrix for key, matrix in packed_model(config).items() if key != name}
    with pytest.raises(ParameterError, match=f"a mapping with {name}"):
        Decoder(config, without)
