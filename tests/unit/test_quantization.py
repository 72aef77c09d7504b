"""The formulas of the papers, computed by hand on small cases."""

from __future__ import annotations

import numpy as np
import pytest

from tercet.errors import ParameterError
from tercet.quantization.activations import absmax_int8
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary, sign_binary


def f32(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_absmean_by_hand() -> None:
    """The mean magnitude is 1: 0.5 is a tie and goes to the even zero, 1.5 would be 2 and is clipped."""
    tensor = absmean_ternary(f32([0.5, -0.5, 1.5, -1.5], [0.501, -0.499, 0.0, 3.0]))
    assert tensor.scales == np.float32(1.0)
    assert tensor.codes.tolist() == [[0, 0, 1, -1], [1, 0, 0, 1]]
    assert tensor.granularity == "tensor"


def test_absmean_ties_on_either_side() -> None:
    """The next float above half the scale is +-1, half the scale itself is 0, whatever the scale."""
    for scale in np.random.default_rng(0).uniform(0.01, 10, 100).astype(np.float32):
        half = scale / np.float32(2)
        above = np.nextafter(half, np.float32(np.inf))
        codes = np.clip(np.rint(np.array([half, above, -half, -above]) / scale), -1, 1)
        assert codes.tolist() == [0, 1, 0, -1]


def test_absmean_of_nothing_has_the_smallest_scale() -> None:
    tensor = absmean_ternary(np.zeros((2, 3), np.float32))
    assert not tensor.codes.any()
    assert tensor.scales == np.float32(1e-5)


def test_absmean_does_not_depend_on_the_order_of_summation() -> None:
    weights = np.random.default_rng(0).standard_normal((300, 500), np.float32)
    shuffled = np.random.default_rng(1).permuted(weights.reshape(-1)).reshape(500, 300)
    assert absmean_ternary(weights).scales == absmean_ternary(shuffled).scales


def test_quantizing_again_changes_nothing_when_no_weight_is_zero() -> None:
    tensor = sign_binary(f32([0.25, -0.5, 1.0, -2.0]))
    again = absmean_ternary(tensor.dequantize())
    assert np.array_equal(again.codes, tensor.codes)
    assert again.scales == tensor.scales


def test_sign_binary_by_hand() -> None:
    """Mean 0.5, mean magnitude 1.0: what lies at the mean or above is +1."""
    tensor = sign_binary(f32([0.5, 0.49, 2.0], [-1.0, 1.5, -0.49]))
    assert tensor.scales == np.float32(np.mean([0.5, 0.49, 2.0, 1.0, 1.5, 0.49], dtype=np.float64))
    assert tensor.codes.tolist() == [[1, -1, 1], [-1, 1, -1]]


def test_sign_of_zero_is_plus_one() -> None:
    assert sign_binary(f32([1.0, -1.0, 0.0])).codes.tolist() == [[1, -1, 1]]
    constant = sign_binary(np.full((2, 2), -3, np.float32))
    assert (constant.codes == 1).all()
    assert constant.scales == np.float32(3)


@pytest.mark.parametrize("quantize", [absmean_ternary, sign_binary])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([[1.0, np.nan]], np.float32), r"\[0, 1\] is nan"),
        (np.array([[1.0], [-np.inf]], np.float32), r"\[1, 0\] is -inf"),
        (np.ones((2, 2)), r"float64 \[2, 2\]"),
        (np.ones(2, np.float32), r"float32 \[2\]"),
        (np.ones((0, 2), np.float32), r"float32 \[0, 2\]"),
    ],
)
def test_weights_that_cannot_be_quantized(quantize: object, weights: np.ndarray, message: str) -> None:
    assert callable(quantize)
    with pytest.raises(ParameterError, match=message):
        quantize(weights)


def test_absmax_by_hand() -> None:
    codes, scales = absmax_int8(f32([127.0, 0.5, 1.5, -2.5, 2.4999], [-254.0, 1.0, 3.0, 5.0, 0.0]))
    assert codes.tolist() == [[127, 0, 2, -2, 2], [-127, 0, 2, 2, 0]]
    assert scales.tolist() == [1.0, 2.0]
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32


def test_absmax_of_silence_has_the_smallest_scale() -> None:
    codes, scales = absmax_int8(f32([0.0, 0.0], [1e-6, -4e-8]))
    assert codes.tolist() == [[0, 0], [13, -1]]
    assert (scales == np.float32(1e-5) / np.float32(127)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_absmax_of_what_is_not_finite(value: float) -> None:
    with pytest.raises(ParameterError, match="NaN or an infinity"):
        absmax_int8(f32([1.0, value]))


def test_absmax_of_what_is_no_matrix() -> None:
    with pytest.raises(ParameterError, match=r"not float32 \[3\]"):
        absmax_int8(np.ones(3, np.float32))
    with pytest.raises(ParameterError, match=r"not float64 \[1, 3\]"):
        absmax_int8(np.ones((1, 3)))


@pytest.mark.parametrize(
    ("scales", "granularity", "group_size", "expected"),
    [
        (2.0, "tensor", 4, [[2, 0, -2, 2], [0, -2, 0, 2]]),
        ([2.0, 3.0], "row", 4, [[2, 0, -2, 2], [0, -3, 0, 3]]),
        ([[2.0, 3.0], [4.0, 5.0]], "group", 2, [[2, 0, -3, 3], [0, -4, 0, 5]]),
    ],
)
def test_scales_reach_as_far_as_their_shape_says(
    scales: object, granularity: str, group_size: int, expected: list[list[int]]
) -> None:
    codes = np.array([[1, 0, -1, 1], [0, -1, 0, 1]], np.int8)
    tensor = TernaryTensor(codes, np.array(scales, np.float32))
    assert tensor.shape == (2, 4)
    assert tensor.granularity == granularity
    assert tensor.group_size == group_size
    assert tensor.dequantize().dtype == np.float32
    assert tensor.dequantize().tolist() == expected


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (np.ones(3, np.float32), r"not float32 \[3\]"),
        (np.ones((2, 3), np.float32), r"not float32 \[2, 3\]"),
        (np.ones((2, 0), np.float32), r"not float32 \[2, 0\]"),
        (np.ones((2, 2, 1), np.float32), r"not float32 \[2, 2, 1\]"),
        (np.ones(2), r"not float64 \[2\]"),
        (np.array([1, np.nan], np.float32), "not finite"),
    ],
)
def test_scales_that_do_not_fit(scales: np.ndarray, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TernaryTensor(np.zeros((2, 4), np.int8), scales)


def test_codes_that_are_not_ternary() -> None:
    with pytest.raises(ParameterError, match="not 2"):
        TernaryTensor(np.full((2, 2), 2, np.int8), np.asarray(1, np.float32))
