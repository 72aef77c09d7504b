"""A chain of strategies: who is asked, who is left alone, and what is told about it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tercet.deployment import Availability, GenerationRequest, Piece, Strategy
from tercet.deployment.circuit_breaker import CircuitBreaker
from tercet.deployment.fallback import FallbackChain
from tercet.deployment.measured import MeasuredStrategy
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    FormatError,
    MemoryLimitError,
    OverloadedError,
    ParameterError,
    TercetError,
    UnavailableError,
)

REQUEST = GenerationRequest("Once upon a time", max_tokens=4)


class Scripted(MeasuredStrategy):
    """Says its name, or fails as told: when it is deployed, or before or after its first piece."""

    def __init__(
        self,
        name: str,
        error: BaseException | None = None,
        at_deployment: BaseException | None = None,
        pieces_before: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.error, self.at_deployment, self.pieces_before = error, at_deployment, pieces_before
        self.deployments = self.calls = self.closed = 0

    def availability(self) -> Availability:
        return Availability(self.at_deployment is None, str(self.at_deployment or "it is there"))

    def set_up(self) -> None:
        if self.at_deployment is not None:
            raise self.at_deployment

    def deploy(self) -> None:
        self.deployments += 1
        self.set_up()

    def close(self) -> None:
        self.closed += 1

    def _memory_bytes(self) -> int | None:
        return None

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        self.calls += 1
        for _ in range(self.pieces_before):
            yield Piece("-")
        if self.error is not None:
            raise self.error
        yield Piece(self.name, (1,), finish_reason="length")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def chain_of(*strategies: Strategy, clock: Clock | None = None) -> FallbackChain:
    return FallbackChain(strategies, lambda: CircuitBreaker(3, 30, clock or Clock()))


def test_the_first_answers_and_the_others_are_left_in_peace() -> None:
    first, second = Scripted("first"), Scripted("second")
    chain = chain_of(first, second)
    assert isinstance(chain, Strategy)
    done = chain.generate(REQUEST)
    assert (done.strategy, done.text) == ("first", "first")
    assert second.deployments == 0
    assert [one.success for one in chain.attempts] == [True]


@pytest.mark.parametrize(
    "error",
    [UnavailableError("gone"), DeadlineError("slow"), FormatError("nonsense"), OverloadedError("busy")],
)
def test_the_next_answers_where_one_fails(error: TercetError) -> None:
    chain = chain_of(Scripted("first", error), Scripted("second"))
    assert chain.generate(REQUEST).strategy == "second"
    assert [(one.strategy, one.success, one.reason) for one in chain.attempts] == [
        ("first", False, str(error)),
        ("second", True, ""),
    ]
    assert list(chain.stream(REQUEST)) == ["second"]


def test_what_fails_three_times_is_left_alone_until_it_may_try_again() -> None:
    clock = Clock()
    broken, whole = Scripted("broken", UnavailableError("gone")), Scripted("whole")
    chain = chain_of(broken, whole, clock=clock)
    for _ in range(6):
        assert chain.generate(REQUEST).strategy == "whole"
    assert broken.calls == 3
    assert chain.attempts[0].reason == "it is left alone for 30 more seconds, since it failed: gone"
    clock.now += 31
    chain.generate(REQUEST)
    assert broken.calls == 4
    chain.generate(REQUEST)
    assert broken.calls == 4  # the one try failed
    clock.now += 31
    broken.error = None
    assert chain.generate(REQUEST).strategy == "broken"
    assert chain.generate(REQUEST).strategy == "broken"


def test_what_cannot_be_deployed_is_not_tried_for_each_request() -> None:
    large = Scripted("large", at_deployment=MemoryLimitError("too large"))
    chain = chain_of(large, Scripted("cloud"))
    for _ in range(3):
        assert chain.generate(REQUEST).strategy == "cloud"
    assert large.deployments == 1


def test_who_is_overloaded_says_for_how_long() -> None:
    clock = Clock()
    busy = Scripted("busy", OverloadedError("later", retry_after_seconds=7))
    chain = chain_of(busy, Scripted("idle"), clock=clock)
    chain.generate(REQUEST)
    chain.generate(REQUEST)
    assert busy.calls == 1
    clock.now += 7.1
    chain.generate(REQUEST)
    assert busy.calls == 2


@pytest.mark.parametrize("error", [ContextLengthError("too long"), ParameterError("not so")])
def test_a_request_that_one_refuses_says_nothing_about_it(error: TercetError) -> None:
    small = Scripted("small", error)
    chain = chain_of(small, Scripted("large"))
    for _ in range(5):
        assert chain.generate(REQUEST).strategy == "large"
    assert small.calls == 5


def test_nobody_can() -> None:
    chain = chain_of(Scripted("a", UnavailableError("gone")), Scripted("b", at_deployment=FormatError("bad")))
    with pytest.raises(UnavailableError, match=r"no strategy could answer\. a: gone; b: bad"):
        chain.generate(REQUEST)
    trial = chain_of(Scripted("a", UnavailableError("gone"))).test(REQUEST)
    assert not trial.success
    assert "a: gone" in trial.reason
    with pytest.raises(DeadlineError, match=r"^slow$"):  # of one alone, its own error
        chain_of(Scripted("a", DeadlineError("slow"))).generate(REQUEST)


def test_a_mistake_of_ours_is_not_hidden() -> None:
    chain = chain_of(Scripted("broken", ZeroDivisionError("a bug")), Scripted("whole"))
    with pytest.raises(ZeroDivisionError):
        chain.generate(REQUEST)


def test_a_stream_falls_back_until_its_first_piece() -> None:
    chain = chain_of(Scripted("first", UnavailableError("gone")), Scripted("second"))
    assert "".join(chain.stream(REQUEST)) == "second"
    late = chain_of(Scripted("first", UnavailableError("gone"), pieces_before=1), Scripted("second"))
    pieces = late.stream(REQUEST)
    assert next(pieces) == "-"
    with pytest.raises(UnavailableError, match="gone"):  # the text of another would not go on from it
        next(pieces)


def test_all_are_closed_even_where_one_cannot_be() -> None:
    class Stuck(Scripted):
        def close(self) -> None:
            super().close()
            raise UnavailableError("stuck")

    strategies = Scripted("a"), Stuck("b"), Scripted("c")
    with pytest.raises(UnavailableError, match="stuck"):
        chain_of(*strategies).close()
    assert [one.closed for one in strategies] == [1, 1, 1]


def test_what_can_run_and_what_was_done() -> None:
    chain = chain_of(Scripted("a", at_deployment=FormatError("bad")), Scripted("b"))
    found = chain.availability()
    assert found.available
    assert found.reason == "first b; a: bad; b: it is there"
    chain.set_up()
    chain.deploy()
    assert chain.test(REQUEST).strategy == "b"
    chain.generate(REQUEST)
    metrics = chain.metrics()
    assert (metrics.requests, metrics.successful, metrics.success_rate) == (2, 2, 1.0)
    nobody = chain_of(Scripted("a", at_deployment=FormatError("bad")))
    assert not nobody.availability().available
    with pytest.raises(UnavailableError, match="a: bad"):
        nobody.set_up()


def test_a_chain_of_nothing() -> None:
    with pytest.raises(ParameterError, match="at least one"):
        FallbackChain([])
