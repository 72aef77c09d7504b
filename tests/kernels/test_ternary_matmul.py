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

# Around the tiles (16 x 16; 64 x 5), the panels (48 rows x 512 columns; 64 x 320 or 640), the pieces in
# which activations are prepared (320 columns), the accumulation windows (48 groups of 5), the streams (4 x 64
# rows).
rows_ = st.sampled_from([1, 15, 16, 17, 48, 49, 63, 64, 65, 130, 257, 320]) | st.integers(1, 200)
depths = st.sampled_from(
    [
        1,
        4,
        5,
        15,
        16,
        17,
        63,
        64,
        65,
        79,
        80,
        81,
        159,
        160,
        161,
        239,
        240,
        241,
        319,
        320,
        321,
        511,
        512,
        513,
        1030,
        2561,
    ]
) | st.integers(1, 700)
token_counts = st.integers(1, 40) | st.sampled_from([1, 2, 3, 4, 6, 7, 8, 9, 64, 65, 150, 256, 300])


def product(codes: npt.NDArray[np.int8], activations: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """The oracle."""
    return activations.astype(np.int32) @ codes.astype(np.int32).T


def two_bit_fields(packed: npt.NDArray[np.uint8], rows: int, depth: int) -> npt.NDArray[np.int8]:
    """Codes, -1 to 2, of any bytes: the layout of the two_bit packing without its checks."""
    tiles = packed.reshape(-(-rows // 16), -(-depth // 16), 16, 4)
    fields = np.stack([(tiles >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)], axis=3)
    matrix = fields.transpose(0, 2, 1, 3, 4).reshape(tiles.shape[0] * 16, -1)
    return np.ascontiguousarray(matrix[:rows, :depth])


def five_per_byte_digits(packed: npt.NDArray[np.uint8], rows: int, depth: int) -> npt.NDArray[np.int8]:
    """Codes of any bytes: a magnitude beyond 121 is 243 less, as its five digits say."""
    blocks = packed.reshape(-(-rows // 64), -(-depth // 5), 64)
    magnitudes = (blocks & 0x7F).astype(np.int32)
    values = np.where(magnitudes > 121, magnitudes - 243, magnitudes) + 121  # offset digits 0, 1, 2
    digits = np.stack([values // 3**i % 3 - 1 for i in range(5)], axis=3)
    signed = np.where(blocks >> 7 == 1, -1, 1)[..., None] * digits
    matrix = signed.transpose(0, 2, 1, 3).reshape(blocks.shape[0] * 64, -1).astype(np.int8)
    return np.ascontiguousarray(matrix[:rows, :depth])


CODES_OF_ANY_BYTES = {"two_bit": two_bit_fields, "five_per_byte": five_per_byte_digits}


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
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("activation", [-128, 127])
def test_the_largest_depth_of_five_per_byte_does_not_overflow(isa: str, tokens: int, activation: int) -> None:
    """121 is five codes of 1, 122 five of -1."""
    activations = np.full((tokens, MAX_DEPTH), activation, np.int8)
    for byte, code in ((121, 1), (0x80 | 121, -1), (122, -1), (0x80 | 122, 1)):
        packed = np.full(packed_bytes("five_per_byte", 64, MAX_DEPTH), byte, np.uint8)
        result = ternary_matmul(packed, "five_per_byte", 64, MAX_DEPTH, activations, isa)
        np.testing.assert_array_equal(result, np.full((tokens, 64), code * activation * MAX_DEPTH))


@every_isa
@pytest.mark.parametrize("tokens", [1, 7])
def test_the_largest_depth_does_not_overflow_even_with_impossible_bytes(isa: str, tokens: int) -> None:
    """Byte 0xFF is four codes of 2, which only damaged data holds; the stated bounds cover it."""
    packed = np.full(packed_bytes("two_bit", 16, MAX_DEPTH), 0xFF, np.uint8)
    activations = np.full((tokens, MAX_DEPTH), -128, np.int8)
    result = ternary_matmul(packed, "two_bit", 16, MAX_DEPTH, activations, isa)
    np.testing.assert_array_equal(result, np.full((tokens, 16), 2 * -128 * MAX_DEPTH))


@every_isa
@every_packing
@given(
    rows=rows_, depth=depths, tokens=st.integers(1, 40), threads=st.integers(1, 2), seed=st.integers(0, 2**32)
)
def test_any_bytes_give_the_same_integers_and_padding_never_leaks(
    isa: str, packing: str, rows: int, depth: int, tokens: int, threads: int, seed: int
) -> None:
    """Random bytes fill padding rows and columns, and hold what no packing contains: code 2, and magnitudes
    beyond 121."""
    random = np.random.default_rng(seed)
    packed = random.integers(0, 256, packed_bytes(packing, rows, depth), np.uint8)
    activations = random.integers(-128, 128, (tokens, depth), np.int8)
    codes = CODES_OF_ANY_BYTES[packing](packed, rows, depth)
    np.testing.assert_array_equal(
        ternary_matmul(packed, packing, rows, depth, activations, isa, threads), product(codes, activations)
    )


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "reference"])
@every_packing
@pytest.mark.parametrize("tokens", [*range(1, 41), 64, 65, 256, 300])
def test_every_number_of_tokens(isa: str, packing: str, tokens: int) -> None:
    """Kernels have a form for few tokens and one for many, and blocks of 6, 8, 16 and 32."""
    rows, depth = 150, 333
    random = np.random.default_rng(tokens)
    codes = random.integers(-1, 2, (rows, depth), np.int8)
    activations = random.integers(-128, 128, (tokens, depth), np.int8)
    result = ternary_matmul(pack(codes, packing), packing, rows, depth, activations, isa)
    np.testing.assert_array_equal(result, product(codes, activations))


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
@every_packing
@pytest.mark.parametrize("tokens", [1, 9])
def test_bytes_need_no_alignment(isa: str, packing: str, tokens: int) -> None:
    """A mapped file may be aligned to anything."""
    random = np.random.default_rng(6)
    codes = random.integers(-1, 2, (40, 100), np.int8)
    activations = random.integers(-128, 128, (tokens, 100), np.int8)
    packed = PACKINGS[packing].pack(codes)
    for shift in (1, 4, 32):
        moved = np.zeros(packed.size + shift, np.uint8)
        moved[shift:] = packed
        np.testing.assert_array_equal(
            ternary_matmul(moved[shift:], packing, 40, 100, activations, isa), product(codes, activations)
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
