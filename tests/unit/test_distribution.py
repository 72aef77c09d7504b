"""Quantiles to one percent, sums exact, additions and differences without a loss."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.monitoring.distribution import ACCURACY, Distribution

DURATIONS = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=60)


@given(DURATIONS, st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_values_to_one_percent(values: list[float], share: float) -> None:
    exact = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    assert Distribution.of(values).quantile(share) == pytest.approx(exact, rel=ACCURACY * 1.0001)


@given(DURATIONS, DURATIONS)
def test_parts_add_up_and_an_earlier_state_can_be_taken_off(first: list[float], second: list[float]) -> None:
    whole = Distribution.of(first) + Distribution.of(second)
    assert whole.classes == Distribution.of(first + second).classes
    assert whole.count == len(first) + len(second)
    rest = whole - Distribution.of(first)
    assert rest.classes == Distribution.of(second).classes
    assert rest.count == len(second)
    assert rest.total == pytest.approx(sum(second), rel=1e-9, abs=1e-5)


def test_of_nothing_there_is_no_figure() -> None:
    assert Distribution().average is None
    assert Distribution().quantile(0.5) is None


def test_the_number_of_classes_is_bounded_whatever_comes() -> None:
    spread = Distribution.of([0.0, -1.0, 1e-300, 1e300, 1.0])
    assert spread.count == 5
    assert spread.quantile(0) == 0
    assert len(spread.classes) == 3
