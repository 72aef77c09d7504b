"""What comes out of one request, as a program with an event loop reads it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tercet.engine.request import Request
from tercet.sampling.logprobs import TokenLogprobs

__all__ = ["RequestStream", "TokenEvent"]


@dataclass(frozen=True)
class TokenEvent:
    """What one step gave to one request.

    `text` may be empty while a character or a possible stop string is incomplete, and `token_ids` may be
    empty where the end of a request only releases text. `at` is a reading of the engine's clock.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    at: float = 0.0


class RequestStream(AsyncIterator[TokenEvent]):
    """Iterate to get the events of a request; an error that ended it is raised behind the last of them.

    Made by `AsyncEngine.submit` inside of a running event loop, and read there, by one task. Events are
    collected by the engine's thread (`collect`) and handed over to the loop (`deliver`).
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.loop = asyncio.get_running_loop()
        self._events: deque[TokenEvent] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._failure: BaseException | None = None
        self._num_tokens = 0
        self._num_collected = 0
        self._num_read = 0

    @property
    def num_unread(self) -> int:
        """Events that the reader has not taken yet."""
        return self._num_collected - self._num_read

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._events:
            if self._ended:
                error = self._failure or self.request.error
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._num_read += 1
        return self._events.popleft()

    def collect(self, now: float) -> tuple[TokenEvent | None, bool]:
        """Take what is new, and say whether that is the end; called by the engine's thread alone."""
        request = self.request
        ended = request.finished  # asked first: another thread's step may add the last piece in between
        ids = request.generated_ids[self._num_tokens :]
        logprobs = request.logprobs[self._num_tokens : self._num_tokens + len(ids)]
        text = request.output.take() if request.output is not None else ""
        if not ids and not text:
            return None, ended
        self._num_tokens += len(ids)
        self._num_collected += 1
        return TokenEvent(text, ids, logprobs, now), ended

    def deliver(self, event: TokenEvent | None, ended: bool) -> None:
        """Hand an event to the reader; called in its loop."""
        if event is not None:
            self._events.append(event)
        self._ended = self._ended or ended
        self._changed.set()

    def fail(self, error: BaseException) -> None:
        """End the stream with an error for its reader, even if the engine hangs; called in its loop."""
        self._failure = error
        self.deliver(None, True)
