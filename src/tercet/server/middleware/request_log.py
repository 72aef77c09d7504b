"""The id of a request, in and out; one line in the log and one count when it has ended.

A client may name its request by `X-Request-Id`; otherwise it gets a fresh id. Status 499 in the log means
that the client went away before the answer was complete. An exception that is nobody's fault but ours is
logged with its kind and place, without its words, which could be somebody's prompt; the client gets the id
to ask about.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.server.errors import error_response
from tercet.service.observation import fault_fields

__all__ = ["CLIENT_GONE", "RequestLog"]

CLIENT_GONE = 499
ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
QUIET_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/metrics", "/dashboard.json", "/dashboard/day.json"}
)
"""Polled every second or so: at debug level unless they fail, as are the files of the page."""
LOG = logging.getLogger("tercet.access")


class RequestLog:
    """See the module."""

    def __init__(self, app: ASGIApp, count: Callable[[int], None], writes: bool = True) -> None:
        self.app = app
        self.count = count
        self.writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if ACCEPTABLE.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        began = time.monotonic()
        status, num_bytes, complete = 0, 0, False

        async def watched(message: Message) -> None:
            nonlocal status, num_bytes, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
            elif message["type"] == "http.response.body":
                num_bytes += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            LOG.error("fault", extra={"request_id": request_id, **fault_fields(error)})
            if status:
                raise  # an answer had begun: its connection is closed, so that nobody takes it for complete
            await error_response(error)(scope, receive, watched)
        finally:
            if state.get("client_gone") or (status and not complete):
                status = CLIENT_GONE
            self.count(status or 500)
            polled = scope["path"] in QUIET_PATHS or scope["path"].startswith("/page/")
            quiet = (polled and status < 400) or not self.writes
            LOG.log(
                logging.DEBUG if quiet else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"][:200],
                    "status": status or 500,
                    "response_bytes": num_bytes,
                    "seconds": round(time.monotonic() - began, 4),
                },
            )
