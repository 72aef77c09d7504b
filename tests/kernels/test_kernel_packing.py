"""Packing in C++ and in NumPy write the same bytes, and refuse the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import FormatError, ParameterError
from tercet.kernels.isa import available_isas
from tercet.kernels.packing import fastest_packing, pack, packed_bytes, unpack
from tercet.quantization.packings import PACKINGS

every_isa = pytest.mark.parametrize("isa", available_isas())
every_packing = pytest.mark.parametrize("packing", PACKINGS)


@every_isa
@every_packing
@given(rows=st.integers(1, 140), depth=st.integers(1, 140), seed=st.integers(0, 2**32))
def test_the_bytes_are_those_of_numpy(isa: str, packing: str, rows: int, depth: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(-1, 2, (rows, depth), np.int8)
    packed = pack(codes, packing, isa)
    np.testing.assert_array_equal(packed, PACKINGS[packing].pack(codes))
    assert packed.size == packed_bytes(packing, rows, depth) == PACKINGS[packing].packed_bytes(rows, depth)
    np.testing.assert_array_equal(unpack(packed, packing, rows, depth, isa), codes)


@every_isa
@every_packing
@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_is_another_matrix_or_refused_by_both(
    isa: str, packing: str, where: float, value: int
) -> None:
    rows, depth = 30, 42
    packed = pack(np.random.default_rng(1).integers(-1, 2, (rows, depth), np.int8), packing)
    packed[int(where * packed.size)] = value
    try:
        expected = PACKINGS[packing].unpack(packed, rows, depth)
    except FormatError:
        with pytest.raises(FormatError, match=rf"byte {int(where * packed.size)} of the {packing} weights"):
            unpack(packed, packing, rows, depth, isa)
    else:
        np.testing.assert_array_equal(unpack(packed, packing, rows, depth, isa), expected)


@every_isa
@every_packing
def test_a_code_that_is_not_ternary_is_refused(isa: str, packing: str) -> None:
    codes = np.zeros((20, 30), np.int8)
    codes[7, 11] = 2
    with pytest.raises(ParameterError, match=r"pack: codes\[7, 11\] should be -1, 0 or 1, got 2"):
        pack(codes, packing, isa)


def test_sizes_and_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"unpack: packed should be 64 bytes for 16 rows of depth 16, got 63"
    ):
        unpack(np.zeros(63, np.uint8), "two_bit", 16, 16)
    with pytest.raises(
        ParameterError, match=r"pack: codes should be int8 \[rows, depth\], got float32 \[2, 3\]"
    ):
        pack(np.zeros((2, 3), np.float32), "two_bit")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"pack: rows should be 1 to 2147483648, got 0"):
        pack(np.zeros((0, 3), np.int8), "two_bit")


def test_views_are_packed_as_what_they_show() -> None:
    codes = np.random.default_rng(2).integers(-1, 2, (24, 40), np.int8)
    np.testing.assert_array_equal(pack(codes[::2, ::-1], "two_bit"), pack(codes[::2, ::-1].copy(), "two_bit"))


@every_isa
def test_the_fastest_packing_is_one_that_has_kernels(isa: str) -> None:
    permutes_bytes = isa in ("avx512_vbmi", "amx_int8")
    assert fastest_packing(False, isa) == ("five_per_byte" if permutes_bytes else "two_bit")
    assert fastest_packing(True, isa) == "two_bit"
