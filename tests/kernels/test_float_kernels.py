"""The float kernels: the same bits on every instruction set, the stated order of sums, the right numbers.

The oracles repeat the header's rules (cpp/include/tercet/float_kernels.hpp) in NumPy float32, one rounding an
operation, so that equality is the test. Only where the header promises accuracy is there a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from random_decoders import assert_same_bits
from tercet import _core
from tercet.kernels import floats
from tercet.quantization.activations import absmax_int8

ISAS = _core.available_isas()
SIZES = [1, 2, 5, 15, 16, 17, 31, 32, 33, 48, 63, 100, 128, 255, 1000]
F32 = np.float32
isas = pytest.mark.parametrize("isa", ISAS)
sizes = pytest.mark.parametrize("size", SIZES)


def spread(size: int, seed: int) -> np.ndarray:
    """Values of many magnitudes, some of them zero."""
    random = np.random.default_rng([size, seed])
    values = random.standard_normal(size) * 10.0 ** random.integers(-3, 3, size)
    return np.where(random.random(size) < 0.1, 0, values).astype(F32)


def lane_sum(values: np.ndarray) -> np.float32:
    """Lane l adds the elements l, l + 16, ...; then lane l meets l + 8, l + 4, l + 2, l + 1."""
    padded = np.zeros(-(-values.size // 16) * 16, F32)
    padded[: values.size] = values
    sums = np.zeros(16, F32)
    for row in padded.reshape(-1, 16):
        sums = sums + row
    for half in (8, 4, 2, 1):
        sums = sums[:half] + sums[half : 2 * half]
    return F32(sums[0])


def exponential(x: np.ndarray) -> np.ndarray:
    """The polynomial of cpp/src/kernels/generic/exponential.hpp."""
    bounded = np.minimum(x, F32(88))
    n = bounded * F32(1.44269504088896341) + F32(12582912) - F32(12582912)
    r = (bounded - n * F32(0.693359375)) + n * F32(2.12194440e-4)
    p = np.full_like(x, F32(1.9875691500e-4))
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + F32(coefficient)
    power = np.ldexp(F32(1), np.maximum(n, F32(-126)).astype(np.int32))
    return np.where(x < F32(-87), F32(0), ((p * (r * r) + r) + F32(1)) * power)


@isas
@sizes
def test_quantize(isa: str, size: int) -> None:
    x = spread(size, 0)
    codes, scale, total = floats.quantize(x, isa)
    expected, scales = absmax_int8(x[None])
    assert np.array_equal(codes, expected[0])
    assert F32(scale) == scales[0]
    assert total == expected.sum(dtype=np.int64)


@isas
def test_quantize_rounds_half_to_even_and_has_a_floor(isa: str) -> None:
    codes, scale, _ = floats.quantize(F32([127, 0.5, 1.5, 2.5, -0.5, -1.5, -127]), isa)
    assert codes.tolist() == [127, 0, 2, 2, 0, -2, -127]
    assert scale == 1
    codes, scale, total = floats.quantize(np.zeros(20, F32), isa)
    assert not codes.any()
    assert total == 0
    assert F32(scale) == F32(1e-5) / F32(127)
    assert floats.quantize(F32([4e-6]), isa)[0].tolist() == [51]


@isas
@pytest.mark.parametrize("where", [0, 5, 20])
def test_quantize_lets_no_nan_vanish(isa: str, where: int) -> None:
    x = spread(21, 0)
    x[where] = np.nan
    assert np.isnan(floats.quantize(x, isa)[1])
    x[where] = -np.inf
    assert floats.quantize(x, isa)[1] == np.inf


@isas
@sizes
def test_rms_norm(isa: str, size: int) -> None:
    x, weight, epsilon = spread(size, 1), spread(size, 2), F32(1e-5)
    factor = F32(1) / np.sqrt(lane_sum(x * x) / F32(size) + epsilon)
    assert_same_bits(floats.rms_norm(x, weight, 1e-5, isa), x * factor * weight)


@isas
@sizes
def test_gated_activations(isa: str, size: int) -> None:
    gate, up = spread(size, 3), spread(size, 4)
    positive = np.where(gate < 0, F32(0), gate)
    assert_same_bits(floats.gated(gate, up, "relu2", isa), positive * positive * up)
    silu = gate / (F32(1) + exponential(F32(0) - gate))
    assert_same_bits(floats.gated(gate, up, "silu", isa), silu * up)
    wide = gate.astype(np.float64)
    np.testing.assert_allclose(silu * up, wide / (1 + np.exp(-wide)) * up, rtol=2**-21, atol=1e-30)
    twice_u = gate * (F32(1.5957691216057308) + gate * gate * F32(0.07135481627260025))
    gelu = gate / (F32(1) + exponential(F32(0) - twice_u)) * up
    assert_same_bits(floats.gated(gate, up, "gelu_tanh", isa), gelu)
    exact = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))) * up
    # Far left the value is g e^(2 u): tiny, and off by the rounding of u times |2 u|.
    np.testing.assert_allclose(gelu, exact, rtol=2**-20, atol=1e-7)


@isas
def test_activations_of_extremes(isa: str) -> None:
    gate = F32([-np.inf, -1e30, -200, -0.0, 0, 200, 1e30, np.inf, np.nan])
    with np.errstate(invalid="ignore", over="ignore"):
        relu2 = floats.gated(gate, np.ones_like(gate), "relu2", isa)
        silu = floats.gated(gate, np.ones_like(gate), "silu", isa)
        gelu = floats.gated(gate, np.ones_like(gate), "gelu_tanh", isa)
    assert relu2[:5].tolist() == [0] * 5
    assert relu2[5:8].tolist() == [40_000, np.inf, np.inf]
    assert np.abs(silu[2:5]).max() < 1e-35
    assert silu[5:8].tolist() == [200, F32(1e30), np.inf]
    assert np.abs(gelu[2:5]).max() < 1e-35
    assert gelu[5:8].tolist() == [200, F32(1e30), np.inf]
    assert np.isnan([relu2[8], silu[8], gelu[8]]).all()


@isas
@sizes
def test_rescale(isa: str, size: int) -> None:
    random = np.random.default_rng(size)
    sums = random.integers(-(2**30), 2**30, size, dtype=np.int32)
    scales, to, scale = spread(size, 5), spread(size, 6), F32(0.37)
    product = sums.astype(F32) * (scale * scales)
    assert_same_bits(floats.rescale(sums, scale, scales, isa=isa), product)
    assert_same_bits(floats.rescale(sums, scale, scales, to, isa), to + product)
    single = floats.rescale(sums, scale, scales[:1], to, isa)
    assert_same_bits(single, to + sums.astype(F32) * (scale * scales[0]))


@isas
@pytest.mark.parametrize("head_dim", [2, 18, 32, 64, 100, 128])
def test_rotate_turns_by_the_angles_of_hugging_face(isa: str, head_dim: int) -> None:
    half = head_dim // 2
    head, factor = spread(head_dim, 7), F32(0.3)
    for position in (0, 1, 17, 4095, 100_000):
        for theta in (10_000.0, 500_000.0):
            frequencies = (theta ** (-np.arange(half) / half)).astype(F32)
            angles = (F32(position) * frequencies).astype(np.float64)
            cosines, sines = np.cos(angles).astype(F32), np.sin(angles).astype(F32)
            a, b = head[:half], head[half:]
            turned = np.concatenate([a * cosines - b * sines, b * cosines + a * sines]) * factor
            assert_same_bits(floats.rotate(head, position, frequencies, 1.0, factor, isa), turned)


@isas
@sizes
def test_softmax(isa: str, size: int) -> None:
    scores = spread(size, 8)
    weights = exponential(scores - scores.max())
    got = floats.softmax(scores, isa)
    assert_same_bits(got, weights * (F32(1) / lane_sum(weights)))
    exact = np.exp((scores - scores.max()).astype(np.float64))
    np.testing.assert_allclose(got, exact / exact.sum(), rtol=2**-20, atol=1e-37)


@isas
def test_exponential_is_within_its_bound(isa: str) -> None:
    """softmax([0, x]) is [f, f e^x] with one f: their ratio is e^x up to one rounding of each product."""
    x = np.concatenate([np.linspace(-87, 0, 20_001, dtype=F32), F32([-87.5, -1e30])])
    pairs = np.stack([floats.softmax(F32([0, value]), isa) for value in x]).astype(np.float64)
    exact = np.exp(x.astype(np.float64))
    normal = pairs[:, 1] > 2.0**-126  # below, products lose bits to gradual underflow
    error = np.abs(pairs[normal, 1] / pairs[normal, 0] / exact[normal] - 1)
    assert error.max() < 2**-23 + 2 * 2**-24
    assert pairs[-2:, 1].tolist() == [0, 0]


HALVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "f32": lambda values: values,
    "f16": lambda values: values.astype(np.float16),
    "bf16": lambda values: (values.view(np.uint32) >> 16).astype(np.uint16),
}


def as_float32(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(F32)
    return stored.astype(F32)


@isas
@sizes
@pytest.mark.parametrize("kind", HALVES)
def test_dot_rows(isa: str, size: int, kind: str) -> None:
    rows = HALVES[kind](spread(7 * size, 9)).reshape(7, size)
    vectors = spread(6 * size, 10).reshape(6, size)
    expected = [[lane_sum(row * vector) for row in as_float32(rows)] for vector in vectors]
    for count in (1, 3, 6):
        assert_same_bits(floats.dot_rows(rows, vectors[:count], isa), np.array(expected[:count], F32))


@isas
@sizes
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_add_weighted_rows(isa: str, size: int, kind: str) -> None:
    rows = HALVES[kind](spread(9 * size, 11)).reshape(9, size)
    weights, start = spread(7 * 9, 12).reshape(7, 9), spread(7 * size, 13).reshape(7, size)
    expected = start
    for row, weight in zip(as_float32(rows), weights.T, strict=True):
        expected = expected + weight[:, None] * row
    for count in (1, 2, 5, 7):
        got = floats.add_weighted_rows(rows, weights[:count], start[:count], isa)
        assert_same_bits(got, expected[:count])


@isas
def test_every_half_widens_exactly_and_comes_back(isa: str) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = floats.widen(halves[None], isa)[0]
    finite = ~np.isnan(halves)
    assert_same_bits(wide[finite], halves[finite].astype(F32))
    assert np.isnan(wide[~finite]).all()
    assert_same_bits(wide, floats.widen(halves[None], "reference")[0])  # the payloads of NaNs as well
    assert_same_bits(floats.narrow_f16(wide, isa)[finite], halves[finite])
    bits = np.arange(2**16, dtype=np.uint16)
    assert_same_bits(floats.widen(bits[None], isa)[0], (bits.astype(np.uint32) << 16).view(F32))


@isas
def test_narrowing_rounds_half_to_even(isa: str) -> None:
    random = np.random.default_rng(0)
    anything = random.integers(2**32, size=200_000, dtype=np.uint32)
    exponents = random.integers(100, 145, size=200_000, dtype=np.uint32) << 23  # around the range of halves
    ties = random.integers(2**10, size=200_000, dtype=np.uint32) << 13 | 0x1000
    values = np.concatenate([anything, exponents | (anything & 0x807FFFFF), exponents | ties]).view(F32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    got = floats.narrow_f16(values, isa)
    number = ~np.isnan(values)
    assert_same_bits(got[number], expected[number])
    assert np.isnan(got[~number]).all()
    assert_same_bits(got, floats.narrow_f16(values, "reference"))
