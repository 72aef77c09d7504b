"""A breaker, with a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.deployment.circuit_breaker import CircuitBreaker
from tercet.errors import ParameterError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_failures_in_a_row_open_it_and_time_lets_one_try(clock: Clock) -> None:
    breaker = CircuitBreaker(failures=3, open_seconds=30, clock=clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()  # not in a row
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.state == "open"
    assert not breaker.allows()
    clock.now += 29.9
    assert not breaker.allows()
    assert breaker.seconds_left == pytest.approx(0.1)
    clock.now += 0.2
    assert breaker.state == "half open"
    assert breaker.allows()
    assert not breaker.allows()  # one at a time
    breaker.failed()
    assert breaker.state == "open"
    clock.now += 31
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.allows()


def test_who_was_allowed_and_says_nothing_is_forgotten(clock: Clock) -> None:
    breaker = CircuitBreaker(failures=1, open_seconds=30, clock=clock)
    breaker.failed()
    clock.now += 31
    assert breaker.allows()
    assert not breaker.allows()
    breaker.abandoned()
    assert breaker.allows()
    clock.now += 31
    assert breaker.allows()


def test_a_failure_may_say_how_long_and_open_it_at_once(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    breaker.failed(7, at_once=True)
    assert breaker.seconds_left == 7
    breaker.failed(1e9, at_once=True)
    assert breaker.seconds_left == 3600  # whoever says more is not believed


@pytest.mark.parametrize("arguments", [(0, 30.0), (3, 0.0), (3, float("nan"))])
def test_numbers_that_cannot_be(arguments: tuple[int, float]) -> None:
    with pytest.raises(ParameterError, match="a breaker opens after"):
        CircuitBreaker(*arguments)


@given(st.lists(st.one_of(st.sampled_from(["ask", "good", "bad"]), st.floats(0, 100)), max_size=60))
def test_it_always_lets_somebody_try_again(events: list[str | float]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=2, open_seconds=30, clock=clock)
    for event in events:
        if isinstance(event, float):
            clock.now += event
        elif event == "ask":
            breaker.allows()
        elif event == "good":
            breaker.succeeded()
            assert breaker.state == "closed"
        else:
            breaker.failed()
    clock.now += 61
    assert breaker.allows()
