"""Which texts an embedding step takes: all of them once, in order, within the limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.engine.plan import StepLimits, plan_embedding

LIMITS = StepLimits(max_step_tokens=32, max_sequences=4)


@pytest.mark.parametrize(
    ("lengths", "runs"),
    [
        ([], []),
        ([5], [range(1)]),
        ([16, 16, 1], [range(2), range(2, 3)]),  # 32 tokens are a full step
        ([1] * 9, [range(4), range(4, 8), range(8, 9)]),  # four sequences at most
        ([3, 90, 3], [range(1), range(1, 2), range(2, 3)]),  # a long one is alone
        ([9, 9, 9], [range(2), range(2, 3)]),  # three would take six of the five blocks
    ],
)
def test_runs_by_hand(lengths: list[int], runs: list[range]) -> None:
    assert plan_embedding(lengths, num_blocks=5, block_tokens=8, limits=LIMITS) == runs


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(8, 20))
def test_laws(lengths: list[int], num_blocks: int) -> None:
    runs = plan_embedding(lengths, num_blocks, 8, LIMITS)
    assert [index for run in runs for index in run] == list(range(len(lengths)))
    for run in runs:
        taken = [lengths[index] for index in run]
        assert len(taken) == 1 or (sum(taken) <= 32 and len(taken) <= 4)
        assert sum(-(-length // 8) for length in taken) <= num_blocks
