"""Several strategies as one: the first that can answers, and what fails is left alone for a while.

    chain = FallbackChain([create("native", model, settings), create("remote", model, settings)])
    answer = chain.generate(GenerationRequest("Once upon a time"))
    answer.strategy        # who answered
    chain.attempts         # who was tried for it and why the others did not

They are tried in the order given: local ones first, since prompts leave the machine only through a strategy
that may send them, which each asks the settings itself. A strategy that cannot be deployed, is out of order
or too slow opens its circuit breaker; one that merely refuses a request (a prompt too long for its context)
does not. A strategy is deployed when its turn comes.

The time limit of a request is each strategy's own. A stream falls back until its first piece was given:
afterwards the text of another would not go on from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tercet.deployment.circuit_breaker import CircuitBreaker
from tercet.deployment.strategy import Availability, Generation, GenerationRequest, Metrics, Strategy, Trial
from tercet.errors import (
    ContextLengthError,
    OverloadedError,
    ParameterError,
    TercetError,
    UnavailableError,
)

__all__ = ["Attempt", "FallbackChain"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt:
    """One strategy's part in answering a request."""

    strategy: str
    success: bool
    reason: str
    """Empty, or why it did not answer."""


@dataclass
class _Link:
    strategy: Strategy
    breaker: CircuitBreaker
    reason: str = ""
    """Why it failed last."""


class FallbackChain:
    """A strategy made of others. Used by one thread at a time, as they are.

    Args:
        strategies: in the order of preference.
        breaker: makes the circuit breaker of each.

    Raises:
        ParameterError: there are none.
    """

    name = "fallback"
    comparable = False

    def __init__(
        self, strategies: Sequence[Strategy], breaker: Callable[[], CircuitBreaker] = CircuitBreaker
    ) -> None:
        if not strategies:
            raise ParameterError("a chain has at least one strategy")
        self._links = [_Link(strategy, breaker()) for strategy in strategies]
        self.attempts: tuple[Attempt, ...] = ()

    def availability(self) -> Availability:
        """See `Strategy`: one that can run is enough."""
        found = {strategy.name: strategy.availability() for strategy in self._strategies}
        can = [name for name, one in found.items() if one.available]
        reasons = "; ".join(f"{name}: {one.reason}" for name, one in found.items())
        return Availability(bool(can), f"first {can[0]}; {reasons}" if can else reasons)

    def set_up(self) -> None:
        """See `Strategy`: each that can be is set up; one is enough."""
        failed: list[Attempt] = []
        for strategy in self._strategies:
            try:
                strategy.set_up()
            except TercetError as error:
                failed.append(Attempt(strategy.name, False, str(error)))
        if len(failed) == len(self._links):
            raise _nobody(failed)

    def deploy(self) -> None:
        """See `Strategy`: the first that can be is deployed, the others when their turn comes."""
        self._first(lambda strategy: None)

    def generate(self, request: GenerationRequest) -> Generation:
        """See `Strategy`; `strategy` of the answer says whose it is."""
        return self._first(lambda strategy: strategy.generate(request))

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """See `Strategy`. An error after the first piece is raised as it is."""

        def begun(strategy: Strategy) -> tuple[str | None, Iterator[str]]:
            pieces = strategy.stream(request)
            return next(pieces, None), pieces

        first, rest = self._first(begun)
        if first is None:
            return
        link = self._links[len(self.attempts) - 1]
        yield first
        try:
            yield from rest
        except TercetError as error:
            _note(link, error)
            raise

    def test(self, request: GenerationRequest | None = None) -> Trial:
        """See `Strategy`: the first test that succeeds, or all reasons."""
        trials = []
        for strategy in self._strategies:
            trials.append(strategy.test(request))
            if trials[-1].success:
                return trials[-1]
        reasons = "; ".join(f"{one.strategy}: {one.reason}" for one in trials)
        return Trial(self.name, False, reasons)

    def metrics(self) -> Metrics:
        """See `Strategy`: of all together. A request that two were tried for counts in both."""
        each = [strategy.metrics() for strategy in self._strategies]
        successful = sum(one.successful for one in each)
        seconds = sum((one.average_seconds or 0) * one.successful for one in each)
        memories = [one.memory_bytes for one in each if one.memory_bytes is not None]
        return Metrics(
            requests=sum(one.requests for one in each),
            successful=successful,
            generated_tokens=sum(one.generated_tokens for one in each),
            counted_seconds=sum(one.counted_seconds for one in each),
            average_seconds=seconds / successful if successful else None,
            median_time_to_first_token_seconds=None,
            # Two of them may be in one process, whose memory would count twice.
            memory_bytes=memories[0] if len(memories) == 1 else None,
        )

    def close(self) -> None:
        """See `Strategy`."""
        with contextlib.ExitStack() as stack:
            for strategy in self._strategies:
                stack.callback(strategy.close)

    @property
    def _strategies(self) -> list[Strategy]:
        return [link.strategy for link in self._links]

    def _first(self, ask: Callable[[Strategy], Result]) -> Result:
        attempts: list[Attempt] = []
        for link in self._links:
            name, breaker = link.strategy.name, link.breaker
            if not breaker.allows():
                left = f"it is left alone for {breaker.seconds_left:.0f} more seconds, since it failed: "
                attempts.append(Attempt(name, False, left + link.reason))
                continue
            deployed = False
            try:
                link.strategy.deploy()
                deployed = True
                result = ask(link.strategy)
            except TercetError as error:
                _note(link, error, at_once=not deployed)
                attempts.append(Attempt(name, False, link.reason))
                if len(self._links) == 1:
                    raise
            except BaseException:
                breaker.abandoned()
                raise
            else:
                breaker.succeeded()
                self.attempts = (*attempts, Attempt(name, True, ""))
                return result
        self.attempts = tuple(attempts)
        raise _nobody(attempts)


def _note(link: _Link, error: TercetError, at_once: bool = False) -> None:
    """Tell a breaker what a failure says of a strategy; `at_once` where to try again costs too much."""
    link.reason = str(error)
    if isinstance(error, OverloadedError):
        link.breaker.failed(error.retry_after_seconds, at_once=True)
    elif isinstance(error, (ParameterError, ContextLengthError)) and not at_once:
        link.breaker.abandoned()
    else:
        link.breaker.failed(at_once=at_once)


def _nobody(attempts: Sequence[Attempt]) -> UnavailableError:
    reasons = "; ".join(f"{one.strategy}: {one.reason}" for one in attempts)
    return UnavailableError(f"no strategy could answer. {reasons}")
