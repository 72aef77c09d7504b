"""Where an answer comes from: the engine, which makes it now, or the memory of an earlier one."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from tercet.engine.async_engine import AsyncEngine, RequestStream, TokenEvent
from tercet.engine.result import GenerationResult, result_of

__all__ = ["AnswerSource", "ComputedAnswer", "RememberedAnswer"]


class AnswerSource(Protocol):
    """What a generation reads from."""

    is_remembered: bool
    prompt_tokens: int

    @property
    def changed(self) -> bool:
        """Whether it is not what the model wrote, since a filter changed it."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]: ...

    async def __anext__(self) -> TokenEvent: ...

    def end(self, error: BaseException | None = None) -> None:
        """Make no more of it. The reader gets the error, if there is one, even where the source hangs."""

    def summary(self, arrived_at: float, last_at: float) -> GenerationResult:
        """What there is so far, its times counted from the arrival of the request."""


class ComputedAnswer:
    """What the engine makes of a request."""

    is_remembered = False
    changed = False

    def __init__(self, stream: RequestStream, engine: AsyncEngine) -> None:
        self.prompt_tokens = len(stream.request.prompt_ids)
        self._stream = stream
        self._engine = engine

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        return await self._stream.__anext__()

    def end(self, error: BaseException | None = None) -> None:
        """Cancel the request; it gives back its memory with the engine's next step."""
        if error is not None:
            self._stream.request.cancel_error = error
            self._stream.fail(error)
        self._engine.cancel(self._stream.request)

    def summary(self, arrived_at: float, last_at: float) -> GenerationResult:
        """What the engine says of the request, its times counted from the arrival."""
        request = self._stream.request
        result = result_of(
            request, {"timings": self._timings(arrived_at), "draw_seconds": request.draw_seconds}
        )
        finished = request.finished_at or max(last_at, request.submitted_at)
        total = finished - arrived_at
        first = finished if request.first_token_at is None else request.first_token_at
        return dataclasses.replace(
            result,
            generation_time_seconds=total,
            time_to_first_token_seconds=first - arrived_at,
            tokens_per_second=result.generated_tokens / total if total > 0 else 0.0,
        )

    def _timings(self, arrived_at: float) -> dict[str, Any]:
        """Where the time went: before the queue, in it, reading the prompt, generating."""
        request = self._stream.request
        marks = [request.submitted_at, request.started_at, request.first_token_at, request.finished_at]
        for index in reversed(range(len(marks) - 1)):  # what never came about took no time of its own
            marks[index] = marks[index + 1] if marks[index] is None else marks[index]
        names = ("preparation", "queue", "prefill", "decode")
        return {
            f"{name}_seconds": None if begin is None or end is None else end - begin
            for name, begin, end in zip(names, [arrived_at, *marks], marks, strict=False)
        }


class RememberedAnswer:
    """A response from the cache, in one piece."""

    is_remembered = True
    changed = False

    def __init__(self, result: GenerationResult, clock: Callable[[], float]) -> None:
        self.prompt_tokens = result.prompt_tokens
        self._result = result
        self._at = clock()
        self._event: TokenEvent | None = TokenEvent(
            result.text, list(result.token_ids), list(result.logprobs), self._at
        )

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        event, self._event = self._event, None
        if event is None or not (event.text or event.token_ids):
            raise StopAsyncIteration
        return event

    def end(self, error: BaseException | None = None) -> None:
        """There is nothing to end."""

    def summary(self, arrived_at: float, last_at: float) -> GenerationResult:
        """The response as it was, with the time that it took now."""
        seconds = self._at - arrived_at
        timings = dict.fromkeys(("queue_seconds", "prefill_seconds", "decode_seconds"), 0.0)
        return dataclasses.replace(
            self._result,
            generation_time_seconds=seconds,
            time_to_first_token_seconds=seconds,
            tokens_per_second=self._result.generated_tokens / seconds if seconds > 0 else 0.0,
            cache_hit=False,
            cached_tokens=0,
            response_cached=True,
            metadata={**self._result.metadata, "timings": {"preparation_seconds": seconds, **timings}},
        )
