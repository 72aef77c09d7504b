"""The layouts byte by byte, as the documentation states them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tercet.errors import FormatError, ParameterError
from tercet.quantization.packings import PACKINGS, packing

NAMES = list(PACKINGS)


def random_codes(rows: int, depth: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, depth), dtype=np.int8)


def test_two_bit_puts_each_code_where_the_layout_says() -> None:
    codes = random_codes(37, 50)
    packed = packing("two_bit").pack(codes)
    depth_tiles = 4
    for row in range(48):
        for column in range(64):
            tile = (row // 16) * depth_tiles + column // 16
            byte = packed[64 * tile + 4 * (row % 16) + column % 4]
            field = (int(byte) >> (2 * (column % 16 // 4))) & 3
            assert field == 1 + (codes[row, column] if row < 37 and column < 50 else 0)


def test_five_per_byte_puts_each_code_where_the_layout_says() -> None:
    codes = random_codes(70, 13)
    packed = packing("five_per_byte").pack(codes)
    groups = 3
    padded = np.zeros((128, 15), np.int8)
    padded[:70, :13] = codes
    for row in range(128):
        for group in range(groups):
            value = sum(int(padded[row, 5 * group + i]) * 3**i for i in range(5))
            byte = packed[64 * (row // 64 * groups + group) + row % 64]
            assert byte == abs(value) + (128 if value < 0 else 0)


@pytest.mark.parametrize(
    ("name", "rows", "depth", "expected"),
    [
        ("two_bit", 1, 1, 64),
        ("two_bit", 16, 16, 64),
        ("two_bit", 17, 16, 128),
        ("two_bit", 6912, 2560, 6912 * 2560 // 4),
        ("five_per_byte", 1, 1, 64),
        ("five_per_byte", 64, 5, 64),
        ("five_per_byte", 64, 6, 128),
        ("five_per_byte", 6912, 2560, 6912 * 2560 // 5),
    ],
)
def test_sizes(name: str, rows: int, depth: int, expected: int) -> None:
    assert packing(name).packed_bytes(rows, depth) == expected
    assert packing(name).pack(np.zeros((rows, depth), np.int8)).nbytes == expected


@pytest.mark.parametrize("name", NAMES)
def test_row_blocks_can_be_packed_one_by_one(name: str) -> None:
    height = packing(name).ROW_MULTIPLE
    codes = random_codes(3 * height + 5, 23)
    blocks = [packing(name).pack(codes[start : start + height]) for start in range(0, len(codes), height)]
    assert np.array_equal(np.concatenate(blocks), packing(name).pack(codes))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arrange", [np.asfortranarray, lambda codes: np.repeat(codes, 2, axis=1)[:, ::2]])
def test_the_order_of_the_codes_in_memory_does_not_matter(
    name: str, arrange: Callable[[np.ndarray], np.ndarray]
) -> None:
    for shape in [(64, 80), (30, 33)]:
        codes = random_codes(*shape)
        assert np.array_equal(packing(name).pack(arrange(codes)), packing(name).pack(codes))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array([[0, 2], [1, 0]], np.int8), r"not 2 \(row 0, column 1\)"),
        (np.array([[0, 0], [-128, 0]], np.int8), r"not -128 \(row 1, column 0\)"),
        (np.zeros((2, 2), np.int32), r"not int32 \[2, 2\]"),
        (np.zeros(4, np.int8), r"not int8 \[4\]"),
        (np.zeros((0, 4), np.int8), r"at least one row"),
        ([[0, 1]], "not list"),
    ],
)
def test_what_is_no_ternary_matrix_is_refused(name: str, codes: np.ndarray, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        packing(name).pack(codes)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_bytes_is_refused(name: str) -> None:
    packed = packing(name).pack(random_codes(20, 20))
    with pytest.raises(
        FormatError, match=rf"\[20, 20\] matrix has {packed.size} bytes, not {packed.size - 1}"
    ):
        packing(name).unpack(packed[:-1], 20, 20)
    with pytest.raises(ParameterError, match="uint8, not int8"):
        packing(name).unpack(packed.view(np.int8), 20, 20)
    with pytest.raises(ParameterError, match="at least one row"):
        packing(name).unpack(packed, 0, 20)


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_is_either_valid_or_refused(name: str) -> None:
    """A [1, depth] matrix whose first row's byte takes all 256 values."""
    chosen = packing(name)
    depth = 16 if name == "two_bit" else 5
    valid = 0
    for value in range(256):
        packed = chosen.pack(np.zeros((1, depth), np.int8))
        packed[0] = value
        if chosen.is_valid(packed):
            valid += 1
            assert chosen.pack(chosen.unpack(packed, 1, depth))[0] == value
        else:
            with pytest.raises(FormatError, match=rf"byte 0 of a {name} matrix is 0x{value:02x}"):
                chosen.unpack(packed, 1, depth)
    assert valid == (3**4 if name == "two_bit" else 3**5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [0, 2**18 - 1, 2**18, -1])
def test_an_invalid_byte_is_found_wherever_it_stands(name: str, at: int) -> None:
    chosen = packing(name)
    packed = np.zeros(2**18 + 64, np.uint8)
    assert chosen.is_valid(packed)
    packed[at] = 0xFF
    assert not chosen.is_valid(packed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [(1, 0), (0, 1)])
def test_padding_that_is_not_zero_is_refused(name: str, place: tuple[int, int]) -> None:
    codes = np.zeros((2, 2), np.int8)
    codes[place] = 1
    packed = packing(name).pack(codes)
    assert packing(name).is_valid(packed)
    with pytest.raises(FormatError, match=r"padding of a packed \[1, 1\] matrix is not zero"):
        packing(name).unpack(packed, 1, 1)


def test_an_unknown_packing_is_refused() -> None:
    with pytest.raises(ParameterError, match="no packing 'three_bit'; the packings are two_bit, five"):
        packing("three_bit")
