"""What only some architectures have, in the reference: each part by its formula, the whole by laws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest

from tercet.errors import UnsupportedModelError
from tercet.models.config import ModelConfig
from tercet.models.random_weights import RandomStyle, random_weights
from tercet.models.rope_scaling import RopeScaling
from tercet.models.rotation import Rotation
from tercet.models.shapes import shape
from tercet.models.tensor_names import is_ternary
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder
from tercet.reference.attention import attend
from tercet.reference.feed_forward import gelu_tanh
from tercet.reference.hadamard import hadamard, turn, turn_back
from tercet.reference.linear import bit_linear
from tercet.reference.normalization import l2_normalized, rms_norm
from tercet.reference.rotary import inverse_frequencies, rotate

SMALL = dataclasses.replace(
    shape("bonsai-8b"), hidden_size=32, ffn_size=48, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=64, max_context=24, eos_token_ids=(), pad_token_id=None,
)  # fmt: skip
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
Weights = dict[str, TernaryTensor | np.ndarray]


def normal(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def floats_of(weights: Mapping[str, TernaryTensor | np.ndarray]) -> Weights:
    return {name: w.dequantize() if isinstance(w, TernaryTensor) else w for name, w in weights.items()}


def logits(config: ModelConfig, weights: Mapping[str, TernaryTensor | np.ndarray]) -> np.ndarray:
    return ReferenceDecoder(config, weights).logits(TOKENS)


# Parts ---------------------------------------------------------------------------------------------


def test_gelu_is_nearly_x_times_the_normal_distribution() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    exact = [value / 2 * (1 + math.erf(value / math.sqrt(2))) for value in x.tolist()]
    np.testing.assert_allclose(gelu_tanh(x), exact, atol=5e-4)  # what the tanh form is off by
    inner = np.sqrt(2 / np.pi) * (1.5 + 0.044715 * 1.5**3)
    assert gelu_tanh(np.float32([1.5]))[0] == pytest.approx(0.75 * (1 + np.tanh(inner)), rel=1e-6)
    assert gelu_tanh(np.float32([-1e30, 0, 1e30])).tolist() == [0, 0, np.float32(1e30)]
    assert gelu_tanh(x).dtype == np.float32


@pytest.mark.parametrize("block_size", [2, 4, 16])
def test_hadamard_is_the_matrix_of_sylvester(block_size: int) -> None:
    matrix = [[(-1) ** (i & j).bit_count() for j in range(block_size)] for i in range(block_size)]
    whole = np.kron(np.eye(48 // block_size), matrix) / math.sqrt(block_size)
    x, signs = normal(3, 48), np.sign(normal(48, seed=1))
    np.testing.assert_allclose(hadamard(x, block_size), x @ whole.T, atol=1e-5)
    np.testing.assert_allclose(turn(x, signs, block_size), (x * signs) @ whole.T, atol=1e-5)
    np.testing.assert_allclose(turn_back(turn(x, signs, block_size), signs, block_size), x, atol=1e-5)
    assert turn(x, signs, block_size).dtype == np.float32


def test_a_window_hides_what_is_farther() -> None:
    query, key, value = normal(9, 4, 8), normal(9, 2, 8, seed=1), normal(9, 2, 8, seed=2)
    windowed = attend(query, key, value, window=3)
    for token in range(9):
        seen = slice(max(0, token - 2), token + 1)  # itself and two before it
        alone = attend(query[seen], key[seen], value[seen])[-1]
        np.testing.assert_allclose(windowed[token], alone, atol=1e-6)
    assert np.array_equal(attend(query, key, value, window=9), attend(query, key, value))
    np.testing.assert_allclose(
        attend(query, key, value, window=1), np.repeat(value, 2, axis=1).reshape(9, 32)
    )


def test_a_scale_of_scores_takes_the_place_of_the_usual_one() -> None:
    query, key, value = normal(5, 2, 16), normal(5, 2, 16, seed=1), normal(5, 2, 16, seed=2)
    assert np.array_equal(attend(query, key, value, 0.25), attend(query, key, value))
    np.testing.assert_allclose(attend(query, key, value, 0.5), attend(2 * query, key, value, 0.25), atol=1e-6)


def test_heads_are_normalized_each_for_itself() -> None:
    heads, weight = normal(3, 4, 8) * 7, normal(8, seed=1)
    result = rms_norm(heads, weight, 1e-6)
    assert np.array_equal(result[1, 2], rms_norm(heads[1, 2][None], weight, 1e-6)[0])


def test_vectors_of_length_one() -> None:
    assert l2_normalized(np.float32([3, 0, 4])) == pytest.approx([0.6, 0, 0.8])
    assert l2_normalized(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("quantize", [True, False])
def test_groups_are_scaled_one_by_one(quantize: bool) -> None:
    """A group of columns with its scale is a matrix of its own; int8 codes are those of the whole row."""
    style = RandomStyle(granularity="group", group_size=16)
    weight = style.matrix(np.random.default_rng(0), 5, 64, 1.0)
    x = normal(3, 64)
    dense = weight.dequantize().astype(np.float64)
    if quantize:
        step = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
        expected = (np.rint(x / step) * step) @ dense.T
    else:
        expected = x @ dense.T
    np.testing.assert_allclose(bit_linear(x, weight, quantize_activations=quantize), expected, atol=1e-4)


# Positions -----------------------------------------------------------------------------------------


def test_linear_scaling_is_slower_counting() -> None:
    x, positions = normal(4, 2, 16), np.array([0, 4, 40, 400])
    scaled = inverse_frequencies(10_000.0, 16, RopeScaling(kind="linear", factor=4))
    plain = inverse_frequencies(10_000.0, 16)
    assert np.array_equal(rotate(x, positions, scaled), rotate(x, positions // 4, plain))
    factors = RopeScaling(kind="factors", factors=(4.0,) * 8)
    assert np.array_equal(inverse_frequencies(10_000.0, 16, factors), scaled)


def test_llama3_keeps_short_waves_and_stretches_long_ones() -> None:
    scaling = RopeScaling(
        kind="llama3", factor=8, original_max_context=8192, low_freq_factor=1, high_freq_factor=4
    )
    plain = 500_000.0 ** (-np.arange(64) / 64)
    for frequency, scaled in zip(plain, inverse_frequencies(500_000.0, 128, scaling), strict=True):
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4:
            expected = frequency
        elif wavelength > 8192 / 1:
            expected = frequency / 8
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            expected = (1 - smooth) * frequency / 8 + smooth * frequency
        assert scaled == pytest.approx(expected, rel=1e-6)


def test_yarn_is_a_ramp_between_two_pairs() -> None:
    scaling = RopeScaling(
        kind="yarn", factor=4, original_max_context=4096, beta_fast=32, beta_slow=1, attention_factor=1.2
    )
    theta, half = 10_000.0, 32
    # A pair turns n times in 4096 positions at theta**(i / half) = 4096 / (2 pi n).
    first = math.floor(half * math.log(4096 / (32 * 2 * math.pi), theta))
    last = math.ceil(half * math.log(4096 / (1 * 2 * math.pi), theta))
    assert 0 < first < last < half
    scaled, plain = inverse_frequencies(theta, 64, scaling), inverse_frequencies(theta, 64)
    assert np.array_equal(scaled[: first + 1], plain[: first + 1])
    np.testing.assert_allclose(scaled[last:], plain[last:] / 4, rtol=1e-6)
    middle = (first + last) // 2
    stretched = (middle - first) / (last - first)
    expected = plain[middle] * (1 - stretched) + plain[middle] / 4 * stretched
    assert scaled[middle] == pytest.approx(expected, rel=1e-6)


def test_the_attention_factor_multiplies_what_is_turned() -> None:
    x, positions, frequencies = normal(3, 1, 8), np.arange(3), inverse_frequencies(100.0, 8)
    plain = rotate(x, positions, frequencies)
    np.testing.assert_allclose(rotate(x, positions, frequencies, 1.5), 1.5 * plain, rtol=1e-6)


# The whole -----------------------------------------------------------------------------------------


def test_a_rotated_model_is_the_model() -> None:
    """Weights times the transpose of R, inputs turned by R: nothing changes but the rounding."""
    names = [name for name in random_weights(SMALL) if is_ternary(name)] + ["output_head"]
    signs = {width: np.sign(normal(width, seed=width)).astype(np.int8) for width in (32, 48)}
    rotation = Rotation.of_signs(16, names, ["embedding"], signs)
    weights = floats_of(random_weights(SMALL))
    turned = weights | {
        name: turn(weights[name], rotation.signs_of(weights[name].shape[1]), 16)
        for name in [*names, "embedding"]
    }
    config = dataclasses.replace(SMALL, rotation=rotation)
    expected = logits(SMALL, weights)
    np.testing.assert_allclose(logits(config, turned), expected, atol=1e-4)
    assert np.abs(logits(SMALL, turned) - expected).max() > 1
    tied = dataclasses.replace(SMALL, tied_embeddings=True)
    rotation = Rotation.of_signs(16, [*names[:-1], "embedding"], ["embedding"], signs)
    with_rotation = dataclasses.replace(tied, rotation=rotation)
    np.testing.assert_allclose(logits(with_rotation, turned), logits(tied, weights), atol=1e-4)


def test_ternary_embeddings_are_their_floats() -> None:
    for granularity in ("tensor", "row", "group"):
        style = RandomStyle(granularity=granularity, group_size=16, ternary_embeddings=True)
        weights = dict(random_weights(SMALL, style=style))
        assert isinstance(weights["embedding"], TernaryTensor)
        np.testing.assert_allclose(logits(SMALL, weights), logits(SMALL, floats_of(weights)), atol=1e-4)
        rounding = dataclasses.replace(SMALL, quantize_activations=True)
        head = dict(weights) | {"output_head": floats_of(weights)["output_head"]}
        np.testing.assert_allclose(logits(rounding, weights), logits(rounding, head), atol=1e-4)


def test_a_norm_per_projection_is_its_own() -> None:
    config = dataclasses.replace(SMALL, projection_norms=True)
    weights = floats_of(random_weights(config))
    folded = dict(weights)
    for name in random_weights(SMALL):
        if is_ternary(name):  # without their weights the norms of one input are all the same
            folded[name] = weights[name] * weights[f"{name}.input_norm"]
            folded[f"{name}.input_norm"] = np.ones(weights[name].shape[1], np.float32)
    np.testing.assert_allclose(logits(config, folded), logits(config, weights), atol=1e-4)
    loud = dataclasses.replace(config, projection_norm_eps=100.0)
    assert np.abs(logits(loud, weights) - logits(config, weights)).max() > 0.1
    same = dataclasses.replace(config, projection_norm_eps=config.rms_norm_eps)
    assert np.array_equal(logits(same, weights), logits(config, weights))


def test_post_norms_measure_what_is_added() -> None:
    config = dataclasses.replace(SMALL, post_norms=True, rms_norm_eps=1e-12)
    weights = floats_of(random_weights(config))
    louder = {name: w * 3 if name.endswith(("attention.o", "ffn.down")) else w for name, w in weights.items()}
    np.testing.assert_allclose(logits(config, louder), logits(config, weights), atol=1e-4)
    silent = {name: w * 0 if name.endswith("post_norm") else w for name, w in weights.items()}
    x = weights["embedding"][TOKENS]
    alone = rms_norm(x, weights["final_norm"], 1e-12) @ weights["output_head"].T
    np.testing.assert_allclose(logits(config, silent), alone, atol=1e-5)


def test_a_scaled_embedding_is_a_larger_embedding() -> None:
    config = dataclasses.replace(SMALL, embedding_scale=4.0)
    weights = floats_of(random_weights(SMALL))
    larger = weights | {"embedding": 4 * weights["embedding"]}
    assert np.array_equal(logits(config, weights), logits(SMALL, larger))


def test_queries_and_keys_are_normalized() -> None:
    weights = floats_of(random_weights(SMALL))
    louder = {
        name: w * 5 if name.endswith(("attention.q", "attention.k")) else w for name, w in weights.items()
    }
    config = dataclasses.replace(SMALL, rms_norm_eps=1e-12)
    np.testing.assert_allclose(logits(config, louder), logits(config, weights), atol=1e-4)
    assert (
        np.abs(logits(dataclasses.replace(SMALL, qk_norm=False), weights) - logits(SMALL, weights)).max()
        > 0.1
    )


def test_layers_with_a_window_have_their_own_positions() -> None:
    weights = floats_of(random_weights(SMALL))
    wide = dataclasses.replace(SMALL, sliding_window=8, sliding_pattern=3)
    assert np.array_equal(logits(wide, weights), logits(SMALL, weights))
    # All layers local: their own base is the only one, and scaling does not reach them.
    scaling = RopeScaling(kind="linear", factor=3)
    local = dataclasses.replace(
        wide, sliding_pattern=None, rope_local_theta=77.0, rope_scaling=scaling, rope_theta=5.0
    )
    assert np.array_equal(
        logits(local, weights), logits(dataclasses.replace(SMALL, rope_theta=77.0), weights)
    )
    shared = dataclasses.replace(local, rope_local_theta=None)
    plain = dataclasses.replace(SMALL, rope_theta=5.0, rope_scaling=scaling)
    assert np.array_equal(logits(shared, weights), logits(plain, weights))
    # A token out of every window is out of every layer's reach but the last one's.
    narrow = dataclasses.replace(wide, sliding_window=2)
    other = [60, *TOKENS[1:]]
    states = ReferenceDecoder(dataclasses.replace(narrow, sliding_pattern=None), weights)
    assert np.array_equal(states.logits(other)[4:], states.logits(TOKENS)[4:])
    assert not np.array_equal(
        ReferenceDecoder(narrow, weights).logits(other)[4:], logits(narrow, weights)[4:]
    )


def test_binary_codes_are_ternary_codes_without_zeros() -> None:
    config = dataclasses.replace(SMALL, quantize_activations=True)
    weights = dict(random_weights(config, style=RandomStyle(binary=True)))
    assert set(np.unique(weights["layers.0.ffn.up"].codes)) == {-1, 1}
    without = dataclasses.replace(config, quantize_activations=False)
    np.testing.assert_allclose(logits(without, weights), logits(without, floats_of(weights)), atol=1e-4)
    assert np.abs(logits(config, weights) - logits(without, weights)).max() < 1


def test_an_embedding_is_the_last_state() -> None:
    config = dataclasses.replace(SMALL, pooling="last", tied_embeddings=True)
    weights = random_weights(config)
    decoder = ReferenceDecoder(config, weights)
    states = decoder.hidden_states(TOKENS)
    assert states.shape == (8, 32)
    assert np.array_equal(decoder.embed(TOKENS), states[-1])
    np.testing.assert_allclose(decoder.logits(TOKENS), states @ weights["embedding"].T, atol=1e-5)
    unit = ReferenceDecoder(dataclasses.replace(config, normalize_embeddings=True), weights).embed(TOKENS)
    np.testing.assert_allclose(unit, states[-1] / np.linalg.norm(states[-1]), atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="predicts tokens, and makes no embeddings"):
        ReferenceDecoder(SMALL, random_weights(SMALL)).embed(TOKENS)
