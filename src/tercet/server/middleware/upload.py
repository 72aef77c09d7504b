"""The body of a request, in one piece, within limits of length and time.

    declared or sent length beyond the limit    413, as soon as that is known
    not complete within the deadline            408
    compressed                                  415: nobody needs it for text, and bombs come that way
    all bodies together beyond the memory       503

The route then reads it from memory. Files are the exception: their route reads them piece by piece.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.server.errors import ApiError, error_response
from tercet.server.settings import ServerSettings

__all__ = ["Upload"]

STREAMED_PATHS = frozenset({"/v1/files"})
"""Routes that write a file to disk while it comes; the deadline is then for each piece."""


class Upload:
    """See the module."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.settings = settings
        self.num_held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then pass the request on."""
        if scope["type"] != "http" or scope.get("tercet.internal"):
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            try:
                if self._has_body(scope):
                    if scope["path"] in STREAMED_PATHS:
                        await self._streamed(scope, receive, send)
                        return
                    await self._within_deadline(receive, body)
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
            except ClientGoneError:
                scope["state"]["client_gone"] = True
                return
            await self.app(scope, _replayed(bytes(body), receive), send)
        finally:
            self.num_held_bytes -= len(body)

    def _has_body(self, scope: Scope) -> bool:
        """Whether a body follows; ApiError where its headers are reason enough to refuse it."""
        limit = self._limit(scope)
        headers = Headers(scope=scope)
        chunked = "transfer-encoding" in headers
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise ApiError(400, "Content-Length is a number of bytes", code="invalid_content_length")
        if int(length) > limit:
            raise _too_large(limit)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"the body is sent as it is, not with Content-Encoding {encoding[:50]!r}"
            raise ApiError(415, message, code="unsupported_content_encoding")
        return chunked or int(length) > 0

    async def _within_deadline(self, receive: Receive, body: bytearray) -> None:
        seconds = self.settings.upload_timeout_seconds
        try:
            await asyncio.wait_for(self._read(receive, body), seconds)
        except asyncio.TimeoutError:
            raise _too_slow(seconds) from None

    async def _read(self, receive: Receive, body: bytearray) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            body += piece
            self.num_held_bytes += len(piece)
            more = message.get("more_body", False)
            if len(body) > self.settings.max_body_bytes:
                raise _too_large(self.settings.max_body_bytes)
            if self.num_held_bytes > self.settings.max_uploading_bytes:
                words = "the server is reading as much as it can hold; try again"
                raise ApiError(503, words, code="overloaded", retry_after_seconds=1)

    def _limit(self, scope: Scope) -> int:
        streamed = scope["path"] in STREAMED_PATHS
        return self.settings.max_file_bytes if streamed else self.settings.max_body_bytes

    async def _streamed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the reading to the route, and count."""
        num_bytes = 0
        limit = self._limit(scope)

        async def counted() -> Message:
            nonlocal num_bytes
            try:
                message = await asyncio.wait_for(receive(), self.settings.upload_timeout_seconds)
            except asyncio.TimeoutError:
                raise _too_slow(self.settings.upload_timeout_seconds) from None
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise _too_large(limit)
            return message

        scope["tercet.streamed"] = True
        await self.app(scope, counted, send)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="request_too_large")


def _too_slow(seconds: float) -> ApiError:
    return ApiError(408, f"the body was not complete within {seconds:g} seconds", code="upload_timeout")


class ClientGoneError(Exception):
    """The connection ended before the body did."""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and from then on what the connection says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
