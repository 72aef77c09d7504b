"""Laws of quantization, over any finite weights and activations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tercet.quantization.activations import absmax_int8
from tercet.quantization.weights import absmean_ternary, sign_binary

matrices = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(matrices)
def test_absmean_is_the_formula_in_exact_arithmetic(weights: np.ndarray) -> None:
    tensor = absmean_ternary(weights)
    exact = sum(abs(Fraction(float(weight))) for weight in weights.flat) / weights.size
    scale = Fraction(float(tensor.scales))
    assert abs(scale - max(exact, Fraction(1e-5))) <= scale * Fraction(1, 2**23)
    half = scale / 2
    for weight, code in zip(weights.flat, tensor.codes.flat, strict=True):
        assert code == (abs(Fraction(float(weight))) > half) * np.sign(weight)


@given(matrices)
def test_absmean_mirrors_its_input(weights: np.ndarray) -> None:
    plus, minus = absmean_ternary(weights), absmean_ternary(-weights)
    assert np.array_equal(plus.codes, -minus.codes)
    assert plus.scales == minus.scales


@given(matrices)
def test_sign_binary_has_no_zeros_and_the_mean_magnitude(weights: np.ndarray) -> None:
    tensor = sign_binary(weights)
    assert set(np.unique(tensor.codes)) <= {-1, 1}
    assert tensor.scales == absmean_ternary(weights).scales
    assert tensor.codes.flat[weights.argmax()] == 1 or np.ptp(weights) < 1e-5 * np.abs(weights).max()


@given(matrices)
def test_absmax_stays_in_range_and_near(activations: np.ndarray) -> None:
    codes, scales = absmax_int8(activations)
    assert np.abs(codes.astype(int)).max() <= 127
    largest = np.abs(activations).max(axis=1)
    assert (np.abs(codes).max(axis=1)[largest >= 1e-5] == 127).all()
    error = np.abs(codes * scales[:, None] - activations)
    assert (error <= scales[:, None] * (0.5 + 127 * 2**-22)).all()


@given(matrices, st.integers(-20, 20))
def test_absmax_does_not_see_a_power_of_two(activations: np.ndarray, exponent: int) -> None:
    factor = np.float32(2.0**exponent)
    largest = np.abs(activations).max(axis=1)
    loud = (largest >= 1e-5) & (largest * factor >= 1e-5)
    codes, scales = absmax_int8(activations)
    scaled_codes, scaled_scales = absmax_int8(activations * factor)
    assert np.array_equal(codes[loud], scaled_codes[loud])
    assert np.array_equal(scales[loud] * factor, scaled_scales[loud])
