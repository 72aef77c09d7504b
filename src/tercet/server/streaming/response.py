"""A stream of server-sent events as a response.

    events  --pump-->  client        one event after the other, at the client's speed
    silence --beat-->  client        a comment after every 15 s without an event
    client  --watch-> cancelled      a client that leaves ends the work for it

The status line waits for the first event, or the first 15 s: until then an error is an ordinary one with a
status of its own. Afterwards it can only be one more event, and the stream ends without `[DONE]`, which is how
clients tell it from a stream that is complete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tercet.server.errors import error_object, from_exception
from tercet.server.streaming.disconnect import end_of, until_disconnected
from tercet.server.streaming.events import KEEP_ALIVE, event

__all__ = ["KEEP_ALIVE_SECONDS", "EventStream"]

KEEP_ALIVE_SECONDS = 15.0
STALL_SECONDS = 60.0
"""A client that takes nothing for so long is cut off."""
HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}  # the latter: nginx passes events on at once


class EventStream(Response):
    """Sends encoded events as they come.

    Args:
        events: the events, as bytes; it is closed when the client leaves, and what it does then (`finally`)
            must end the work behind it.
        keep_alive_seconds: longest silence.
        failed: makes the last event out of an error that comes after the first; None writes the error object.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        failed: Callable[[Exception], bytes] | None = None,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._failed = failed or error_event
        self._keep_alive_seconds = keep_alive_seconds
        self._started = False
        self._sending_since: float | None = None
        self._sent_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; return when that is done, or when the client has gone or stalled."""
        self._sent_at = time.monotonic()
        pump = asyncio.ensure_future(self._pump(send))
        watch = asyncio.ensure_future(until_disconnected(receive))
        beat = asyncio.ensure_future(self._beat(send))
        try:
            await asyncio.wait({pump, watch, beat}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
            elif not self._started:
                raise ClientDisconnect
        finally:
            await end_of(pump, watch, beat)
            await self._events.aclose()

    async def _pump(self, send: Send) -> None:
        try:
            async for encoded in self._events:
                await self._send(send, encoded)
        except Exception as error:
            if not self._started:
                raise
            await self._send(send, self._failed(error))
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        """Fill silences; return when a client has stalled."""
        while True:
            now = time.monotonic()
            if self._sending_since is not None:
                if now - self._sending_since >= STALL_SECONDS:
                    return
                await asyncio.sleep(1.0)
            elif (rest := self._sent_at + self._keep_alive_seconds - now) > 0:
                await asyncio.sleep(rest)
            else:
                await self._send(send, KEEP_ALIVE)

    async def _send(self, send: Send, body: bytes) -> None:
        await self._start(send)
        self._sending_since = time.monotonic()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_at, self._sending_since = time.monotonic(), None

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


def error_event(error: Exception) -> bytes:
    """The error object of OpenAI as an event."""
    return event(error_object(from_exception(error)))
