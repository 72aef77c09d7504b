"""Ternary x int8 is exact: every instruction set equals NumPy, for any shape, bytes and thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercet.errors import IsaError, ParameterError
from tercet.kernels.isa import available_isas
from tercet.kernels.linear import MAX_DEPTH, ternary_matmul
from tercet.kernels.packing import pack, packed_bytes
from tercet.quantization.packings import PACKINGS

ISAS = available_isas()
every_isa = pytest.mark.parametrize("isa", ISAS)
every_packing = pytest.mark.parametrize("packing", PACKINGS)

# Around the tiles (16 x 16; 64 x 5), the panels (48 rows x 512 columns) and the accumulation windows.
rows_ = st.sampled_from([1, 15, 16, 17, 48, 49, 63, 64, 65, 130]) | st.integers(1, 200)
depths = st.sampled_from([1, 4, 5, 15, 16, 17, 63, 64, 65, 159, 160, 161, 511, 512, 513, 1030]) | st.integers(
    1, 700
)
token_counts = st.integers(1, 33) | st.sampled_from([1, 2, 6, 7, 8, 9, 150])


def product(codes: npt.NDArray[np.int8], activations: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """The oracle."""
    return activations.astype(np.int32) @ codes.astype(np.int32).T


def two_bit_fields(packed: npt.NDArray[np.uint8], rows: int, depth: int) -> npt.NDArray[np.int8]:
    """Codes, -1 to 2, of any bytes: the layout of the two_bit packing without its checks."""
    tiles = packed.reshape(-(-rows // 16), -(-depth // 16), 16, 4)
    fields = np.stack([(tiles >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)], axis=3)
    matrix = fields.transpose(0, 2, 1, 3, 4).reshape(tiles.shape[0] * 16, -1)
    return np.ascontiguousarray(matrix[:rows, :depth])


@every_isa
@every_packing
@given(rows=rows_, depth=depths, tokens=token_counts, threads=st.integers(1, 2), seed=st.integers(0, 2**32))
@example(rows=97, depth=1030, tokens=33, threads=2, seed=0)
def test_every_isa_equals_numpy(
    isa: str, packing: str, rows: int, depth: int, tokens: int, threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-1, 2, (rows, depth), np.int8)
    activations = random.integers(-128, 128, (tokens, depth), np.int8)
    result = ternary_matmul(PACKINGS[packing].pack(codes), packing, rows, depth, activations, isa, threads)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, product(codes, activations))


@every_isa
@every_packing
@pytest.mark.parametrize("code", [-1, 0, 1])
@pytest.mark.parametrize("activation", [-128, -127, 127])
@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 8, 9])
def test_extreme_sums_do_not_overflow(
    isa: str, packing: str, code: int, activation: int, tokens: int
) -> None:
    rows, depth = 50, 8000
    packed = PACKINGS[packing].pack(np.full((rows, depth), code, np.int8))
    activations = np.full((tokens, depth), activation, np.int8)
    result = ternary_matmul(packed, packing, rows, depth, activations, isa)
    np.testing.assert_array_equal(result, np.full((tokens, rows), code * activation * depth))


@every_isa
@pytest.mark.parametrize("tokens", [1, 7])
def test_the_largest_depth_does_not_overflow_even_with_impossible_bytes(isa: str, tokens: int) -> None:
    """Byte 0xFF is four codes of 2, which only damaged data holds; the stated bounds cover it."""
    packed = np.full(packed_bytes("two_bit", 16, MAX_DEPTH), 0xFF, np.uint8)
    activations = np.full((tokens, MAX_DEPTH), -128, np.int8)
    result = ternary_matmul(packed, "two_bit", 16, MAX_DEPTH, activations, isa)
    np.testing.assert_array_equal(result, np.full((tokens, 16), 2 * -128 * MAX_DEPTH))


@every_isa
@given(
    rows=rows_, depth=depths, tokens=st.integers(1, 14), threads=st.integers(1, 2), seed=st.integers(0, 2**32)
)
def test_any_bytes_give_the_same_integers_and_padding_never_leaks(
    isa: str, rows: int, depth: int, tokens: int, threads: int, seed: int
) -> None:
    """Random bytes fill padding rows and columns, and hold the impossible code 2 as well."""
    random = np.random.default_rng(seed)
    packed = random.integers(0, 256, packed_bytes("two_bit", rows, depth), np.uint8)
    activations = random.integers(-128, 128, (tokens, depth), np.int8)
    expected = product(two_bit_fields(packed, rows, depth), activations)
    np.testing.assert_array_equal(
        ternary_matmul(packed, "two_bit", rows, depth, activations, isa, threads), expected
    )


@every_isa
@every_packing
def test_what_padding_holds_does_not_matter(isa: str, packing: str) -> None:
    """Rows beyond the last one, and the columns beyond the depth, are replaced by ones."""
    rows, depth, tokens = 19, 37, 3
    random = np.random.default_rng(5)
    padded = np.ones((64, 80), np.int8)
    padded[:rows, :depth] = codes = random.integers(-1, 2, (rows, depth), np.int8)
    row_multiple, depth_multiple = PACKINGS[packing].ROW_MULTIPLE, PACKINGS[packing].DEPTH_MULTIPLE
    padded_rows, padded_depth = (
        -(-size // multiple) * multiple for size, multiple in ((rows, row_multiple), (depth, depth_multiple))
    )
    packed = pack(padded[:padded_rows, :padded_depth], packing)
    activations = random.integers(-128, 128, (tokens, depth), np.int8)
    result = ternary_matmul(packed, packing, rows, depth, activations, isa)
    np.testing.assert_array_equal(result, product(codes, activations))


@every_isa
def test_bytes_need_no_alignment(isa: str) -> None:
    """A mapped file may be aligned to anything."""
    random = np.random.default_rng(6)
    codes = random.integers(-1, 2, (40, 100), np.int8)
    activations = random.integers(-128, 128, (9, 100), np.int8)
    packed = PACKINGS["two_bit"].pack(codes)
    for shift in (1, 4, 32):
        moved = np.zeros(packed.size + shift, np.uint8)
        moved[shift:] = packed
        np.testing.assert_array_equal(
            ternary_matmul(moved[shift:], "two_bit", 40, 100, activations, isa), product(codes, activations)
        )


def test_no_tokens_give_no_rows() -> None:
    packed = pack(np.ones((3, 4), np.int8), "two_bit")
    assert ternary_matmul(packed, "two_bit", 3, 4, np.zeros((0, 4), np.int8)).shape == (0, 3)


PACKED = pack(np.ones((20, 30), np.int8), "two_bit")
ACTIVATIONS = np.ones((2, 30), np.int8)
FITTING = {"packed": PACKED, "packing": "two_bit", "rows": 20, "depth": 30, "activations": ACTIVATIONS}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"activations": ACTIVATIONS[:, :29]},
            r"activations should be int8\[tokens, 30\], got int8\[2, 29\]",
        ),
        ({"activations": ACTIVATIONS[0]}, r"activations should be int8 \[tokens, depth\], got int8 \[30\]"),
        ({"activations": ACTIVATIONS * 1.0}, r"activations should be int8 \[tokens, depth\], got float64"),
        ({"packed": PACKED[1:]}, r"packed should be 256 bytes for 20 rows of depth 30, got 255 bytes"),
        ({"packed": PACKED.reshape(2, -1)}, r"packed should be uint8 \[bytes\], got uint8 \[2, 128\]"),
        ({"packing": "three_bit"}, r"packing should be 'two_bit' or 'five_per_byte', got 'three_bit'"),
        ({"rows": -1}, r"rows should be 1 to 2147483648, got -1"),
        ({"depth": MAX_DEPTH + 1}, r"depth should be 1 to 262144, got 262145"),
        ({"threads": 0}, r"threads should be 1 to 1024, got 0"),
        ({"threads": 1025}, r"threads should be 1 to 1024, got 1025"),
    ],
)
def test_operands_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=f"^ternary_matmul: {message}"):
        ternary_matmul(**{**FITTING, **changed})


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(IsaError, match="no instruction set is called 'avx9'"):
        ternary_matmul(PACKED, "two_bit", 20, 30, ACTIVATIONS, isa="avx9")
