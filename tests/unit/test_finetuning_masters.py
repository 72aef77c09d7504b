"""Made-up masters round to what they were made for, whatever that is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch (extra 'finetune') is not installed")
pytest.importorskip("transformers", reason="transformers (extra 'finetune') is not installed")

from tercet.finetuning.masters import spread_masters
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    depth=st.integers(1, 40),
    zeros=st.floats(0, 1),
    exponent=st.floats(-4, 1),
)
def test_absmean_gives_back_codes_and_scale(
    seed: int, rows: int, depth: int, zeros: float, exponent: float
) -> None:
    random = np.random.default_rng(seed)
    codes = random.choice(
        np.array([-1, 0, 1], np.int8), (rows, depth), p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2]
    )
    scale = np.float32(10**exponent)
    again = absmean_ternary(spread_masters(TernaryTensor(codes, np.asarray(scale)), seed))
    np.testing.assert_array_equal(again.codes, codes)
    if codes.any():
        assert again.scales == pytest.approx(scale, rel=1e-6 if codes.size < 1000 else 0)


def test_masters_are_spread_up_to_the_middle_between_two_codes() -> None:
    random = np.random.default_rng(0)
    trained = random.standard_normal((200, 300)).astype(np.float32)
    tensor = absmean_ternary(trained)
    masters = spread_masters(tensor) / tensor.scales
    assert np.array_equal(masters, spread_masters(tensor) / tensor.scales), "the same every time"
    near = np.mean(np.abs(np.abs(masters) - 0.5) < 0.05)
    assert near == pytest.approx(np.mean(np.abs(np.abs(trained / tensor.scales) - 0.5) < 0.05), rel=0.1)
    zeros = masters[tensor.codes == 0]
    assert abs(np.mean(zeros > 0) - 0.5) < 0.02
