"""Storage floats: exact one way, rounded half to even the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.formats.floats import FLOAT_TYPES, from_float32, has_only_finite, to_float32


@pytest.mark.parametrize("float_type", ["f16", "bf16"])
def test_every_16_bit_value_comes_back(float_type: str) -> None:
    bits = np.arange(2**16, dtype="<u2")
    stored = bits.view(FLOAT_TYPES[float_type])
    again = from_float32(to_float32(stored, float_type), float_type).view("<u2")
    is_nan = np.isnan(to_float32(stored, float_type))
    assert np.array_equal(again[~is_nan], bits[~is_nan])
    assert np.isnan(to_float32(again.view(FLOAT_TYPES[float_type]), float_type))[is_nan].all()
    assert [has_only_finite(stored[i : i + 1], float_type) for i in range(0, 2**16, 97)] == list(
        np.isfinite(to_float32(stored, float_type))[::97]
    )


@given(st.floats(width=32, allow_nan=False))
def test_bfloat16_rounds_to_the_nearest_and_halves_to_even(value: float) -> None:
    """Compared with an exhaustive search of the two neighbours, in float64."""
    exact = np.float32(value)
    rounded = from_float32(np.array([exact]), "bf16")
    down = np.array([exact]).view(np.uint32) >> 16
    neighbours = np.concatenate([down, down + 1]).astype("<u2")
    if not np.isfinite(to_float32(neighbours, "bf16")).all():
        assert rounded[0] in neighbours
        return
    distances = np.abs(to_float32(neighbours, "bf16").astype(np.float64) - np.float64(exact))
    if distances[0] == distances[1]:
        assert rounded[0] % 2 == 0
    else:
        assert rounded[0] == neighbours[np.argmin(distances)]


def test_what_float16_cannot_hold_is_found() -> None:
    assert not has_only_finite(from_float32(np.array([1e6], np.float32), "f16"), "f16")
    assert has_only_finite(from_float32(np.array([65504], np.float32), "f16"), "f16")


def test_a_large_array_is_scanned_to_its_end() -> None:
    values = np.zeros(200_001, np.float32)
    assert has_only_finite(values, "f32")
    values[-1] = np.nan
    assert not has_only_finite(values, "f32")
