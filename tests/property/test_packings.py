"""Laws of every packing, over all shapes that are awkward for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tercet.errors import FormatError
from tercet.quantization.packings import PACKINGS, packing

codes = arrays.arrays(
    np.int8,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=140),
    elements=st.integers(-1, 1),
    fill=st.integers(-1, 1),
)


@pytest.mark.parametrize("name", PACKINGS)
@given(codes=codes)
def test_unpack_of_pack_is_identity(name: str, codes: np.ndarray) -> None:
    packed = packing(name).pack(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (packing(name).packed_bytes(*codes.shape),)
    assert packed.size % 64 == 0
    assert packing(name).is_valid(packed)
    assert np.array_equal(packing(name).unpack(packed, *codes.shape), codes)


@pytest.mark.parametrize("name", PACKINGS)
@given(data=st.data(), rows=st.integers(1, 80), depth=st.integers(1, 40))
def test_any_bytes_are_one_matrix_or_refused(name: str, data: st.DataObject, rows: int, depth: int) -> None:
    """Bytes that `unpack` accepts are exactly what `pack` makes of the result."""
    size = packing(name).packed_bytes(rows, depth)
    zero = packing(name).pack(np.zeros((rows, depth), np.int8))
    for _ in range(data.draw(st.integers(1, 3))):
        zero[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
    try:
        codes = packing(name).unpack(zero, rows, depth)
    except FormatError:
        return
    assert np.array_equal(packing(name).pack(codes), zero)
