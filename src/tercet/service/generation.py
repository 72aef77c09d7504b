"""An answer that is on its way.

    generation = await served_model.submit(GenerationRequest(prompt="Once upon a time"))
    async for event in generation:
        print(event.text, end="")
    result = await generation.result()

However it ends - by itself, cancelled, out of time, with an error, or because nobody holds it any more - it
is settled exactly once: observers hear of it, and everything that it occupied is free with the engine's
next step. Times count from the moment the service saw the request, so they hold the work before the queue
(tokenization, chat template, grammar) as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

from tercet.engine.async_engine import TokenEvent
from tercet.engine.result import GenerationResult
from tercet.errors import DeadlineError, GenerationError, ResponseFilteredError, TercetError
from tercet.service.answer_source import AnswerSource
from tercet.service.request import GenerationRequest

__all__ = ["Generation", "GenerationObserver", "Outcome", "TokenEvent"]

Outcome = Literal["stop", "length", "cancelled", "deadline", "error", "content_filter"]
_OUTCOMES: dict[str, Outcome] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class GenerationObserver(Protocol):
    """Who hears of what happens: metrics, the log. Called in the event loop; must be quick, may not raise."""

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """A request did not become a generation."""

    def submitted(self, generation: Generation) -> None:
        """A request waits or runs, or has been answered from the response cache."""

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """A piece came, so long after the piece before it, or the first one after the request."""

    def settled(self, generation: Generation) -> None:
        """A generation has ended: its `outcome`, `error` and `summary` are there."""

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """A request for vectors has ended."""


class Generation(AsyncIterator[TokenEvent]):
    """Iterate to get the pieces; one reader at a time.

    Attributes:
        request: what was asked for.
        model: the name of the model that answers, or of its adapter.
        counted_as: the name of the model itself.
        arrived_at: when the request came, by the engine's clock.
        num_received: tokens that have been read.
        outcome: how it ended, None before.
        error: what ended it, if that was an error.
    """

    def __init__(
        self,
        request: GenerationRequest,
        source: AnswerSource,
        *,
        model: str,
        counted_as: str | None = None,
        arrived_at: float,
        timeouts: tuple[float | None, float | None] = (None, None),
        observers: Sequence[GenerationObserver] = (),
        on_result: Callable[[GenerationResult], None] | None = None,
    ) -> None:
        self.request = request
        self.model = model
        self.counted_as = counted_as or model
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.arrived_at = arrived_at
        self.num_received = 0
        self._source = source
        self._observers = observers
        self._on_result = on_result
        self._last_at = arrived_at
        self._result: GenerationResult | None = None
        self._loop = asyncio.get_running_loop()
        self._timers = [self._timer("request", timeouts[0]), self._timer("first token", timeouts[1])]
        for observer in observers:
            observer.submitted(self)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, known from the start."""
        return self._source.prompt_tokens

    @property
    def response_cached(self) -> bool:
        """Whether a remembered response is given, and the model does nothing."""
        return self._source.is_remembered

    @property
    def may_be_remembered(self) -> bool:
        """Whether it was looked for among the remembered ones, and will be one of them."""
        return self._on_result is not None

    @property
    def summary(self) -> GenerationResult:
        """What there is so far; of a generation that has ended, its result, whatever ended it."""
        return self._result or self._sum_up()

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> TokenEvent:
        if self.outcome is not None:
            raise StopAsyncIteration
        try:
            event = await self._source.__anext__()
        except StopAsyncIteration:
            self._settle(None)
            raise
        except TercetError as error:
            self._settle("deadline" if isinstance(error, DeadlineError) else "error", error)
            raise
        except MemoryError as error:  # the next one may have it again
            self._settle("error", error)
            raise
        except Exception as fault:
            failed = GenerationError(
                "the answer failed inside, and nothing is wrong with the request; the log says more"
            )
            failed.__cause__ = fault
            self._settle("error", failed)
            raise failed from fault
        if event.token_ids:
            self._stop_timer(1)
        for observer in self._observers:
            observer.received(self, event, event.at - self._last_at)
        self.num_received += len(event.token_ids)
        self._last_at = event.at
        return event

    async def result(self) -> GenerationResult:
        """Read what is left, and return the whole.

        Raises:
            DeadlineError: it took too long.
            UnavailableError: the model was stopped meanwhile.
            ResponseFilteredError: the content policy keeps it back, and nobody has read a part of it.
        """
        async for _ in self:
            pass
        if self.error is not None:
            raise self.error
        if self.outcome == "content_filter" and not self.request.stream:
            raise ResponseFilteredError("the answer was withheld by the content filter; ask something else")
        return self.summary

    async def cancel(self) -> None:
        """End it now; what has come so far stays in `summary`. Does nothing if it has ended."""
        self._source.end()
        self._settle("cancelled")

    def expire(self, what: str, seconds: float) -> None:
        """End it, since its time is up."""
        done = "has not ended" if what == "request" else "has not begun to be answered"
        self._source.end(
            DeadlineError(
                f"the request {done} within {seconds:g} seconds; ask for fewer tokens, allow more time, "
                "or try again when less is going on"
            )
        )

    def _timer(self, what: str, seconds: float | None) -> asyncio.TimerHandle | None:
        if seconds is None:
            return None
        # A timer that held the generation would keep it alive when nobody else does.
        return self._loop.call_later(seconds, _expire, weakref.ref(self), what, seconds)

    def _stop_timer(self, index: int) -> None:
        timer, self._timers[index] = self._timers[index], None
        if timer is not None:
            timer.cancel()

    def _settle(self, outcome: Outcome | None, error: BaseException | None = None) -> None:
        """End it, as told or, for None, as its source did."""
        if self.outcome is not None:
            return
        self._result = self._sum_up()
        self.outcome, self.error = outcome or _OUTCOMES.get(self._result.finish_reason, "cancelled"), error
        self._stop_timer(0)
        self._stop_timer(1)
        if self.outcome in ("stop", "length") and self._on_result is not None:
            self._on_result(self._result)
        for observer in self._observers:
            observer.settled(self)

    def _sum_up(self) -> GenerationResult:
        result = self._source.summary(self.arrived_at, self._last_at)
        return dataclasses.replace(result, metadata={**result.metadata, "model": self.model})

    def __del__(self) -> None:
        # Dropped before its end: nobody can read it any more. A finalizer may run anywhere: it leaves notes.
        if getattr(self, "outcome", "error") is None:
            self._source.end()
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._settle, "cancelled")


def _expire(generation: weakref.ref[Generation], what: str, seconds: float) -> None:
    if (held := generation()) is not None:
        held.expire(what, seconds)
