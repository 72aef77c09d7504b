"""HTTP/1.1 that cannot be held open: uvicorn's h11 protocol with deadlines and sizes for what it trusts.

    headers not complete in time        408 where some had come, and closed in any case
    headers too many or too long        431
    two lengths, a length that is none  400
    a reader that takes nothing         the connection is given up, which ends the work for it
    an answer before the whole body     the rest is read for a while, so that the answer arrives, then closed

A connection costs memory and a descriptor, and opening one costs nothing: so each state that a client can
keep it in has an end. Errors are OpenAI's objects here, too. Bodies have their limits in `middleware.upload`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tercet.server.errors import ApiError, error_headers, error_object
from tercet.server.settings import ServerSettings

__all__ = ["hardened_protocol"]

LINGER_SECONDS = 2.0
STATUS_WORDS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


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
        self._header_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._stop_waiting_for_headers()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the deadline of headers ends when they are complete."""
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of the body that was answered too early."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.SEND_BODY:
            self._unset_keepalive_if_required()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self._watch_headers()

    def pause_writing(self) -> None:
        """The reader takes less than is written."""
        super().pause_writing()
        if self._write_deadline is None:
            seconds = self.settings.write_timeout_seconds
            self._write_deadline = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        self._stop_waiting_for_reader()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; uvicorn calls this while it handles the error of h11."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(ApiError(status, f"{msg} {error}".strip(), code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, if nothing has been answered yet, and close."""
        self._stop_waiting_for_headers()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error_object(error)[1]).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
                *error_headers(error).items(),
            ]
            reason = STATUS_WORDS.get(error.status, b"")
            for event in (
                h11.Response(status_code=error.status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_headers(self) -> None:
        """Run the deadline exactly while a request has begun and its headers are not complete."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting_for_headers()
        elif self.conn.trailing_data[0]:
            self._await_headers()

    def _await_headers(self) -> None:
        if self._header_deadline is None:
            seconds = self.settings.header_timeout_seconds
            self._header_deadline = self.loop.call_later(seconds, self._headers_too_late)

    def _headers_too_late(self) -> None:
        self._header_deadline = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._refuse(ApiError(408, "the headers did not come in time", code="header_timeout"))
        else:
            self.transport.close()

    def _stop_waiting_for_headers(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _stop_waiting_for_reader(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
