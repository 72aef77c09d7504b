"""Each part of the reference against the plainest form of its formula."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tercet.errors import ContextLengthError, ParameterError
from tercet.models.random_weights import random_weights
from tercet.models.shapes import shape
from tercet.quantization.activations import absmax_int8
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder
from tercet.reference.attention import attend
from tercet.reference.feed_forward import relu2, silu
from tercet.reference.linear import bit_linear
from tercet.reference.normalization import rms_norm
from tercet.reference.rotary import inverse_frequencies, rotate

SMALL = dataclasses.replace(
    shape("tiny"),
    hidden_size=32,
    ffn_size=48,
    num_layers=2,
    num_heads=4,
    head_dim=8,
    vocab_size=64,
    max_context=24,
)


def normal(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def test_rms_norm_by_hand() -> None:
    x = np.array([[3, 4], [0, 0]], np.float32)
    result = rms_norm(x, np.array([1, 2], np.float32), epsilon=0.5)
    assert result.dtype == np.float32
    assert result == pytest.approx(np.array([[3, 8], [0, 0]]) / np.sqrt(13), rel=1e-6)


def test_rotation_is_multiplication_by_a_complex_number() -> None:
    x = normal(5, 3, 8)
    positions = np.array([0, 1, 2, 7, 4095])
    rotated = rotate(x, positions, inverse_frequencies(500.0, 8))
    pairs = x[..., :4].astype(np.complex128) + 1j * x[..., 4:]
    angles = positions[:, None, None] * 500.0 ** (-np.arange(4) / 4)
    expected = pairs * np.exp(1j * angles)
    assert rotated.dtype == np.float32
    np.testing.assert_allclose(
        rotated[..., :4], expected.real, atol=2e-3
    )  # angles are float32: 4095 * 2**-24
    np.testing.assert_allclose(rotated[..., 4:], expected.imag, atol=2e-3)
    np.testing.assert_allclose(rotated[:3, ..., :4], expected.real[:3], atol=1e-6)
    assert np.array_equal(rotated[0], x[0])


def test_attention_is_its_definition_with_loops() -> None:
    query, key, value = normal(6, 4, 8), normal(6, 2, 8, seed=1), normal(6, 2, 8, seed=2)
    expected = np.zeros((6, 4, 8))
    for token in range(6):
        for head in range(4):
            scores = [query[token, head] @ key[past, head // 2] / np.sqrt(8) for past in range(token + 1)]
            weights = np.exp(scores) / np.sum(np.exp(scores))
            expected[token, head] = sum(w * value[past, head // 2] for past, w in enumerate(weights))
    np.testing.assert_allclose(attend(query, key, value), expected.reshape(6, 32), atol=1e-6)


def test_attention_survives_large_scores() -> None:
    query, key = normal(3, 1, 4) * 1e4, normal(3, 1, 4) * 1e4
    assert np.isfinite(attend(query, key, normal(3, 1, 4))).all()


def test_activations_by_hand() -> None:
    x = np.array([-1e4, -1, 0, 1, 3, 1e4], np.float32)
    assert relu2(x).tolist() == [0, 0, 0, 1, 9, 1e8]
    exact = x / (1 + np.exp(-x.astype(np.float64).clip(-700)))
    np.testing.assert_allclose(silu(x), exact, rtol=1e-6, atol=1e-30)
    assert relu2(x).dtype == silu(x).dtype == np.float32


@pytest.mark.parametrize(
    "scales", [np.asarray(0.5), np.array([0.5, 2, 3]), np.array([[0.5, 1], [2, 3], [4, 5]])]
)
def test_bit_linear_is_integer_arithmetic_and_one_scaling(scales: np.ndarray) -> None:
    codes = np.random.default_rng(0).integers(-1, 2, (3, 10), dtype=np.int8)
    weight = TernaryTensor(codes, scales.astype(np.float32))
    x = normal(4, 10)
    x_codes, x_scales = absmax_int8(x)
    result = bit_linear(x, weight, quantize_activations=True)
    assert result.dtype == np.float32
    groups = 10 // weight.group_size
    wide = np.broadcast_to(
        scales.reshape(-1, groups) if scales.ndim == 2 else scales.reshape(-1, 1), (3, groups)
    )
    for token in range(4):
        for row in range(3):
            expected = np.float32(0)
            for group in range(groups):
                columns = range(group * weight.group_size, (group + 1) * weight.group_size)
                product = sum(int(x_codes[token, column]) * int(codes[row, column]) for column in columns)
                expected += np.float32(product) * (x_scales[token] * np.float32(wide[row, group]))
            assert result[token, row] == expected
    unquantized = bit_linear(x, weight, quantize_activations=False)
    np.testing.assert_allclose(unquantized, x @ weight.dequantize().T, atol=1e-5)
    np.testing.assert_allclose(unquantized, result, atol=x_scales.max() * 10 * wide.max())


@pytest.mark.parametrize("depth", [132_104, 132_105, 300_001])
def test_integer_products_are_exact_at_any_depth(depth: int) -> None:
    """Around 2**24 / 127 products, where a float32 sum would begin to round."""
    x = np.full((1, depth), 127, np.float32)
    x[0, 0] = 126
    weight = TernaryTensor(np.ones((1, depth), np.int8), np.asarray(1, np.float32))
    assert bit_linear(x, weight, quantize_activations=True)[0, 0] == np.float32(127 * depth - 1)


def test_a_float_matrix_is_taken_as_it_is() -> None:
    x, weight = normal(2, 6), normal(3, 6)
    assert np.array_equal(bit_linear(x, weight, quantize_activations=True), x @ weight.T)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_a_token_do_not_depend_on_later_ones(tied: bool) -> None:
    config = dataclasses.replace(SMALL, tied_embeddings=tied)
    decoder = ReferenceDecoder(config, random_weights(config), quantize_activations=False)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    whole = decoder.logits(tokens)
    assert whole.shape == (8, 64)
    assert whole.dtype == np.float32
    for length in (1, 5, 7):
        np.testing.assert_allclose(decoder.logits(tokens[:length]), whole[:length], atol=1e-4)


def test_the_option_overrides_the_config() -> None:
    weights = random_weights(SMALL)
    without = dataclasses.replace(SMALL, quantize_activations=False)
    quantized = ReferenceDecoder(SMALL, weights).logits([1, 2])
    plain = ReferenceDecoder(without, weights).logits([1, 2])
    assert np.array_equal(ReferenceDecoder(SMALL, weights, quantize_activations=False).logits([1, 2]), plain)
    assert np.array_equal(
        ReferenceDecoder(without, weights, quantize_activations=True).logits([1, 2]), quantized
    )
    assert 0 < np.abs(quantized - plain).max() < plain.std()


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([], ParameterError, "at least one whole number"),
        ([[1, 2]], ParameterError, r"not int64 \[1, 2\]"),
        ([1.5], ParameterError, "not float64"),
        ([1, 64], ParameterError, "token id 64 is not in the vocabulary of 64 tokens"),
        ([-1], ParameterError, "token id -1 is not in the vocabulary"),
        ([0] * 25, ContextLengthError, "25 tokens do not fit the model's context of 24"),
    ],
)
def test_tokens_that_cannot_be(tokens: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ReferenceDecoder(SMALL, random_weights(SMALL)).logits(tokens)


def test_a_missing_tensor_is_named() -> None:
    weights = dict(random_weights(SMALL))
    del weights["layers.1.ffn.sub_norm"]
    with pytest.raises(ParameterError, match=r"the model has no tensor layers\.1\.ffn\.sub_norm"):
        ReferenceDecoder(SMALL, weights).logits([1])
