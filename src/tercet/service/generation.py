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
from typing import Any, Literal, Protocol

from tercet.engine.async_engine import AsyncEngine, RequestStream, TokenEvent
from tercet.engine.request import Request
from tercet.engine.result import GenerationResult, result_of
from tercet.errors import DeadlineError
from tercet.service.request import GenerationRequest

__all__ = ["Generation", "GenerationObserver", "Outcome", "TokenEvent"]

Outcome = Literal["stop", "length", "cancelled", "deadline", "error"]


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


class Generation(AsyncIterator[TokenEvent]):
    """Iterate to get the pieces; one reader at a time.

    Attributes:
        request: what was asked for.
        model: the name of the model that answers.
        num_received: tokens that have been read.
        outcome: how it ended, None before.
        error: what ended it, if that was an error.
    """

    def __init__(
        self,
        request: GenerationRequest,
        stream: RequestStream,
        engine: AsyncEngine,
        *,
        model: str,
        arrived_at: float,
        timeouts: tuple[float | None, float | None] = (None, None),
        observers: Sequence[GenerationObserver] = (),
        on_result: Callable[[GenerationResult], None] | None = None,
    ) -> None:
        self.request = request
        self.model = model
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.arrived_at = arrived_at
        self._stream = stream
        self._engine = engine
        self._observers = observers
        self._on_result = on_result
        self.num_received = 0
        self._last_at = arrived_at
        self._result: GenerationResult | None = None
        self._loop = asyncio.get_running_loop()
        self._timers = [self._timer("request", timeouts[0]), self._timer("first token", timeouts[1])]
        for observer in observers:
            observer.submitted(self)

    @property
    def engine_request(self) -> Request:
        """The engine's own account of this request."""
        return self._stream.request

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, known from the start."""
        return len(self.engine_request.prompt_ids)

    @property
    def response_cached(self) -> bool:
        """Whether a remembered response is given, and the model does nothing."""
        return False

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
            event = await self._stream.__anext__()
        except StopAsyncIteration:
            self._settle(self.engine_request.finish_reason or "cancelled")
            raise
        except Exception as error:
            self._settle("deadline" if isinstance(error, DeadlineError) else "error", error)
            raise
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
        """
        async for _ in self:
            pass
        if self.error is not None:
            raise self.error
        return self.summary

    async def cancel(self) -> None:
        """End it now; what has come so far stays in `summary`. Does nothing if it has ended."""
        self._engine.cancel(self.engine_request)
        self._settle("cancelled")

    def _timer(self, what: str, seconds: float | None) -> asyncio.TimerHandle | None:
        if seconds is None:
            return None
        # A timer that held the generation would keep it alive when nobody else does.
        return self._loop.call_later(seconds, _expire, weakref.ref(self), what, seconds)

    def _stop_timer(self, index: int) -> None:
        timer, self._timers[index] = self._timers[index], None
        if timer is not None:
            timer.cancel()

    def expire(self, what: str, seconds: float) -> None:
        """End it, since its time is up."""
        done = "has not ended" if what == "request" else "has not begun to be answered"
        error = DeadlineError(
            f"the request {done} within {seconds:g} seconds; ask for fewer tokens, allow more time, "
            "or try again when less is going on"
        )
        self.engine_request.cancel_error = error
        self._engine.cancel(self.engine_request)
        self._stream.fail(error)  # even if the engine hangs

    def _settle(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self.outcome is not None:
            return
        self.outcome, self.error = outcome, error
        self._stop_timer(0)
        self._stop_timer(1)
        self._result = self._sum_up()
        if outcome in ("stop", "length") and self._on_result is not None:
            self._on_result(self._result)
        for observer in self._observers:
            observer.settled(self)

    def _sum_up(self) -> GenerationResult:
        request = self.engine_request
        result = result_of(request, {"model": self.model, "timings": self._timings()})
        finished = request.finished_at or max(self._last_at, request.submitted_at)
        total = finished - self.arrived_at
        first = finished if request.first_token_at is None else request.first_token_at
        return dataclasses.replace(
            result,
            generation_time_seconds=total,
            time_to_first_token_seconds=first - self.arrived_at,
            tokens_per_second=result.generated_tokens / total if total > 0 else 0.0,
        )

    def _timings(self) -> dict[str, Any]:
        """Where the time went: before the queue, in it, reading the prompt, generating."""
        request = self.engine_request
        marks = [request.submitted_at, request.started_at, request.first_token_at, request.finished_at]
        for index in reversed(range(len(marks) - 1)):  # what never came about took no time of its own
            marks[index] = marks[index + 1] if marks[index] is None else marks[index]
        names = ("preparation", "queue", "prefill", "decode")
        return {
            f"{name}_seconds": None if begin is None or end is None else end - begin
            for name, begin, end in zip(names, [self.arrived_at, *marks], marks, strict=False)
        }

    def __del__(self) -> None:
        # Dropped before its end: nobody can read it any more. A finalizer may run anywhere: it leaves notes.
        if getattr(self, "outcome", "error") is None:
            self._engine.cancel(self.engine_request)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._settle, "cancelled")


def _expire(generation: weakref.ref[Generation], what: str, seconds: float) -> None:
    if (held := generation()) is not None:
        held.expire(what, seconds)
