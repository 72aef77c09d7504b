"""A stream of server-sent events as a response.

The status line waits for the first event, or the first 15 s: until then an error is an ordinary one, with a
status of its own. Afterwards it can only be one more event, and the stream ends without `[DONE]`, by which
clients tell it from a stream that is complete. Silence is filled with comments, so that proxies do not take
a long prompt for a dead connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tercet.server.errors import error_object, note_error
from tercet.server.streaming.events import KEEP_ALIVE, event

__all__ = ["EventStream"]

KEEP_ALIVE_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx then passes events on at once


class EventStream(Response):
    """Sends encoded events as they come.

    Args:
        events: the events, as bytes; it is closed at the end, or when the client leaves, and what it does
            then (`finally`) must end the work behind it.
        headers: more headers.
        failed: makes the last event out of an error that comes after the first; None writes the error object.
        keep_alive_seconds: longest silence.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str] | None = None,
        failed: Callable[[Exception], bytes] | None = None,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        super().__init__(headers={**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._failed = failed or error_event
        self._keep_alive_seconds = keep_alive_seconds
        self._started = False
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        self._sent_at = time.monotonic()
        beat = asyncio.ensure_future(self._beat(send))
        try:
            await self._pump(scope, send)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await self._events.aclose()

    async def _pump(self, scope: Scope, send: Send) -> None:
        try:
            async for encoded in self._events:
                await self._send(send, encoded)
        except Exception as error:
            if not self._started:
                raise
            note_error(scope, error)
            await self._send(send, self._failed(error))
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        while True:
            rest = self._sent_at + self._keep_alive_seconds - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
            else:
                await self._send(send, KEEP_ALIVE)

    async def _send(self, send: Send, body: bytes) -> None:
        self._sent_at = time.monotonic()
        await self._start(send)
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


def error_event(error: Exception) -> bytes:
    """The error object of OpenAI as an event."""
    return event(error_object(error)[1])
