"""Joins the trace of a caller that has one: the headers of W3C Trace Context."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tercet.service.caller_trace import traced_by

__all__ = ["CallerTrace"]


class CallerTrace:
    """See the module; there only where a collector hears of requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with traced_by(Headers(scope=scope)):
            await self.app(scope, receive, send)
