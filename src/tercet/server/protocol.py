"""HTTP/1.1 that cannot be held open: uvicorn's h11 protocol with deadlines and sizes for what it trusts.

    headers not complete in time        408 where some had come, and closed in any case
    headers too many or too long        431
    two lengths, a length that is none  400
    more connections than may be        503
    a reader that takes nothing         the connection is given up, which ends the work for it
    an answer before the whole body     the rest is read for a while, so that the answer arrives, then closed

A connection costs memory and a descriptor, and opening one costs nothing: so each state that a client can
keep it in has an end. Errors are OpenAI's objects here, too. Bodies have their limits in `middleware.upload`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tercet.server.errors import ApiError, error_headers, error_object
from tercet.server.settings import ServerSettings

__all__ = ["hardened_protocol"]

LINGER_SECONDS = 2.0
"""How long the rest of a request is read after its answer: closing earlier could take the answer back."""
LEAST_PROGRESS_BYTES = 64 * 1024
"""What a reader must take within the write timeout, if it does not take everything."""
STATUS_WORDS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


def hardened_protocol(settings: ServerSettings) -> type[H11Protocol]:
    """The protocol class for uvicorn with these limits."""
    return type("HardenedProtocol", (HardenedProtocol,), {"settings": settings})


class CheckedConnection(h11.Connection):
    """Refuses complete headers that h11 takes: it counts only what is incomplete, and takes two lengths."""

    def __init__(self, settings: ServerSettings) -> None:
        super().__init__(h11.SERVER, settings.max_header_bytes)
        self._settings = settings

    def next_event(self) -> Any:
        """The next event; RemoteProtocolError with a status for headers that are refused."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
            names = [name for name, _ in event.headers]
            if len(names) > self._settings.max_headers or size > self._settings.max_header_bytes:
                raise h11.RemoteProtocolError("too many headers, or too long", error_status_hint=431)
            if b"content-length" in names and b"transfer-encoding" in names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
            if event.http_version not in (b"1.0", b"1.1"):
                raise h11.RemoteProtocolError("neither HTTP/1.1 nor HTTP/1.0", error_status_hint=505)
        return event


class HardenedProtocol(H11Protocol):
    """See the module."""

    settings: ServerSettings

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = CheckedConnection(self.settings)
        self._refused = False
        self._header_timer = Timer(self.loop)
        self._linger_timer = Timer(self.loop)
        self._write_timer = Timer(self.loop)
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        # Whatever the reader has not taken counts as unread at once, so that no amount of it waits for ever.
        # (The transport of TLS, unlike others, takes a buffer that is as full as its limit for too full.)
        transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1)
        if len(self.connections) > self.settings.max_connections:
            message = "the server has as many connections as it may have"
            self._refuse(ApiError(503, message, code="overloaded", retry_after_seconds=1))
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._header_timer.stop()
        self._linger_timer.stop()
        self._write_timer.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the connection has been refused."""
        if self._refused:
            return
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of the body that was answered too early."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._refused:
            self._watch_request()

    def pause_writing(self) -> None:
        """The reader takes less than is written."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        self._write_timer.stop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; uvicorn calls this while it handles the error of h11."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(ApiError(status, f"{msg} {error}".strip(), code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, if nothing has been answered yet, and close when the client has read it."""
        self._refused = True
        self._header_timer.stop()
        self._unset_keepalive_if_required()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = json.dumps(error_object(error)[1]).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
            *error_headers(error).items(),
        ]
        reason = STATUS_WORDS.get(error.status, b"")
        response = h11.Response(status_code=error.status, headers=headers, reason=reason)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger()

    def _watch_request(self) -> None:
        """Have the timer that the state of the request asks for, and no other."""
        state = self.conn.their_state
        if state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_headers()
        elif state is not h11.IDLE:
            self._header_timer.stop()
        if state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._unset_keepalive_if_required()
            self._linger()
        else:
            self._linger_timer.stop()

    def _await_headers(self) -> None:
        self._header_timer.start(self.settings.header_timeout_seconds, self._headers_too_late)

    def _headers_too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._refuse(ApiError(408, "the headers did not come in time", code="header_timeout"))
        else:
            self.transport.close()

    def _linger(self) -> None:
        self._linger_timer.start(LINGER_SECONDS, self.transport.close)

    def _await_reader(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._write_timer.start(self.settings.write_timeout_seconds, self._reader_too_slow)

    def _reader_too_slow(self) -> None:
        if self._unread_bytes - self.transport.get_write_buffer_size() >= LEAST_PROGRESS_BYTES:
            self._await_reader()
        else:
            self.transport.abort()


class Timer:
    """One thing that happens later, unless it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        """Have `call` called; a timer that runs already goes on as it is."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, self._fire, call)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self, call: Callable[[], None]) -> None:
        self._handle = None
        call()
