"""Scales per group of columns, ternary times float, ternary tables: the stated additions, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels.isa import available_isas
from tercet.kernels.linear_team import LinearTeam, PackedWeight
from tercet.quantization.activations import absmax_int8
from tercet.quantization.packings import PACKINGS

Floats = npt.NDArray[np.float32]
TEAMS = [(isa, threads) for isa in available_isas() for threads in (1, 2)]
every_packing = pytest.mark.parametrize("packing", PACKINGS)

# Around tiles, panels (48 rows x 512 columns), and the numbers of tokens that kernels have a form for.
rows_ = st.sampled_from([1, 15, 16, 17, 48, 63, 65, 130]) | st.integers(1, 150)
depths = st.sampled_from([1, 16, 17, 127, 128, 129, 512, 513, 1030]) | st.integers(1, 700)
group_sizes = st.sampled_from([16, 32, 48, 128, 256, 512, 528, 1024, 4096])
token_counts = st.sampled_from([1, 2, 3, 6, 7, 8, 9, 17, 70, 150]) | st.integers(1, 20)


@pytest.fixture(scope="module", params=TEAMS, ids=str)
def team(request: pytest.FixtureRequest) -> LinearTeam:
    isa, threads = request.param
    return LinearTeam(threads, isa)


def drawn(
    seed: int, rows: int, depth: int, group_size: int | None, tokens: int
) -> tuple[Any, Floats, Floats]:
    """Codes, scales of both signs and different sizes, and inputs."""
    random = np.random.default_rng(seed)
    codes = random.integers(-1, 2, (rows, depth), np.int8)
    shape = (rows,) if group_size is None else (rows, -(-depth // group_size))
    x = random.standard_normal((tokens, depth), np.float32) * random.uniform(1e-3, 1e3, (tokens, 1))
    return codes, random.standard_normal(shape, np.float32), x.astype(np.float32)


def columns_of_groups(depth: int, group_size: int) -> list[slice]:
    return [slice(start, min(start + group_size, depth)) for start in range(0, depth, group_size)]


def int8_product(codes: npt.NDArray[np.int8], scales: Floats, group_size: int, x: Floats) -> Floats:
    """total += float(sum of the group) * (activation scale * scale), group after group."""
    codes_x, scale_x = absmax_int8(x)
    total = np.zeros((len(x), len(codes)), np.float32)
    for group, columns in enumerate(columns_of_groups(codes.shape[1], group_size)):
        sums = codes_x[:, columns].astype(np.int32) @ codes[:, columns].astype(np.int32).T
        total += sums.astype(np.float32) * (scale_x[:, None] * scales[None, :, group])
    return total


def float_product(codes: npt.NDArray[np.int8], scales: Floats, group_size: int, x: Floats) -> Floats:
    """Four sums, of the columns with k % 4 = 0, 1, 2, 3, each in order; then the groups in order."""
    total = np.zeros((len(x), len(codes)), np.float32)
    for group, columns in enumerate(columns_of_groups(codes.shape[1], group_size)):
        sums = np.zeros((4, *total.shape), np.float32)
        for k in range(columns.start, columns.stop):
            sums[k % 4] += codes[None, :, k].astype(np.float32) * x[:, k, None]
        total += ((sums[0] + sums[2]) + (sums[1] + sums[3])) * scales[None, :, group]
    return total


def assert_same_bits(found: Floats, expected: Floats) -> None:
    np.testing.assert_array_equal(found + np.float32(0), expected + np.float32(0))  # no sign of zero


@every_packing
@given(rows=rows_, depth=depths, group_size=group_sizes, tokens=token_counts, seed=st.integers(0, 2**32))
@example(rows=97, depth=1030, group_size=128, tokens=9, seed=0)
@example(rows=97, depth=2100, group_size=1024, tokens=150, seed=0)
def test_int8_products_of_groups(
    team: LinearTeam, packing: str, rows: int, depth: int, group_size: int, tokens: int, seed: int
) -> None:
    codes, scales, x = drawn(seed, rows, depth, group_size, tokens)
    found = team.multiply(x, PackedWeight(codes, scales, group_size, packing))
    assert_same_bits(found, int8_product(codes, scales, group_size, x))


@every_packing
@given(
    rows=rows_,
    depth=st.sampled_from([1, 4, 15, 16, 17, 130, 513]) | st.integers(1, 300),
    group_size=st.none() | group_sizes,
    tokens=token_counts,
    seed=st.integers(0, 2**32),
)
@example(rows=97, depth=1030, group_size=128, tokens=9, seed=0)
def test_float_products(
    team: LinearTeam, packing: str, rows: int, depth: int, group_size: int | None, tokens: int, seed: int
) -> None:
    codes, scales, x = drawn(seed, rows, depth, group_size, tokens)
    found = team.multiply(x, PackedWeight(codes, scales, group_size, packing), quantize=False)
    assert_same_bits(found, float_product(codes, scales.reshape(rows, -1), group_size or 4096, x))


def test_one_scale_for_the_matrix(team: LinearTeam) -> None:
    codes, _, x = drawn(3, 100, 77, None, 5)
    scale = np.array([0.37], np.float32)
    found = team.multiply(x, PackedWeight(codes, scale), quantize=False)
    assert_same_bits(found, float_product(codes, np.repeat(scale, 100)[:, None], 4096, x))


@pytest.mark.parametrize("quantize", [True, False])
def test_a_row_depends_on_no_other(team: LinearTeam, quantize: bool) -> None:
    codes, scales, x = drawn(4, 200, 640, 128, 40)
    weight = PackedWeight(codes, scales, 128)
    together = team.multiply(x, weight, quantize)
    for count in (1, 2, 5, 6, 7, 13):
        np.testing.assert_array_equal(team.multiply(x[:count], weight, quantize), together[:count])


@pytest.mark.parametrize("quantize", [True, False])
def test_a_value_that_is_not_a_number_reaches_its_row_only(team: LinearTeam, quantize: bool) -> None:
    codes, scales, x = drawn(5, 40, 300, 128, 3)
    x[1, 299] = np.nan
    found = team.multiply(x, PackedWeight(codes, scales, 128), quantize)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


@every_packing
@given(rows=rows_, depth=depths, group_size=st.none() | group_sizes, seed=st.integers(0, 2**32))
def test_rows_of_a_ternary_table(
    team: LinearTeam, packing: str, rows: int, depth: int, group_size: int | None, seed: int
) -> None:
    codes, scales, _ = drawn(seed, rows, depth, group_size, 1)
    ids = np.random.default_rng(seed).integers(0, rows, 9).astype(np.int32)
    spread = np.repeat(scales.reshape(rows, -1), group_size or depth, axis=1)[:, :depth]
    found = team.look_up(PackedWeight(codes, scales, group_size, packing), ids)
    np.testing.assert_array_equal(found, codes[ids].astype(np.float32) * spread[ids])


def padded_bytes_of_ones(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Codes packed as two_bit, with ones where there should be padding."""
    rows, depth = codes.shape
    padded = np.ones((-(-rows // 16) * 16, -(-depth // 16) * 16), np.int8)
    padded[:rows, :depth] = codes
    return PACKINGS["two_bit"].pack(padded)


@pytest.mark.parametrize("quantize", [True, False])
def test_what_padding_holds_does_not_matter(team: LinearTeam, quantize: bool) -> None:
    codes, scales, x = drawn(6, 19, 37, 16, 3)
    honest, other = PackedWeight(codes, scales, 16), PackedWeight(codes, scales, 16)
    other.matrix = _core.TernaryMatrix(padded_bytes_of_ones(codes), "two_bit", 19, 37, scales.ravel(), 16)
    np.testing.assert_array_equal(team.multiply(x, other, quantize), team.multiply(x, honest, quantize))


def test_operands_that_do_not_fit_are_refused(team: LinearTeam) -> None:
    codes, scales, x = drawn(7, 20, 100, 48, 2)
    weight = PackedWeight(codes, scales, 48)
    with pytest.raises(ParameterError, match="group_size should be a multiple of 16, got 40"):
        PackedWeight(codes, scales, 40)
    with pytest.raises(ParameterError, match="scales should be 60 numbers, got 40"):
        PackedWeight(codes, scales[:, :2], 48)
    with pytest.raises(ParameterError, match="scales should be 1 or 20 numbers, got 60"):
        PackedWeight(codes, scales.ravel())
    with pytest.raises(ParameterError, match=r"x should be float32\[tokens, 100\], got float32\[2, 99\]"):
        team.multiply(np.ascontiguousarray(x[:, 1:]), weight, quantize=False)
    for bad in (-1, 20):
        with pytest.raises(ParameterError, match=rf"ids\[1\] should be 0 to 19, got {bad}"):
            team.look_up(weight, np.array([0, bad], np.int32))
    with pytest.raises(ParameterError, match=r"ids should be int32 \[tokens\], got int64"):
        team.look_up(weight, np.array([0, 1]))
