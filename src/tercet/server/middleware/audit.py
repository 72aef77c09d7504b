"""One security event for a request, at its end: who, which route, what came of it, in how many tokens.

    request.processed    it was answered
    request.blocked      it was refused: `reason` is one of `REASONS`, `detail` the code of the error
    request.failed       it could not be answered, and that was our fault
    request.cancelled    the client went away
    admin.action         it was answered, and only admins may do it

Looking at what is public (health, the page, the list of models) is no event unless it is refused. A path
stands there as the route's template, so that a client cannot choose it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.security.events import FieldValue, Kind
from tercet.server.auditing import Auditing
from tercet.server.errors import REASON_OF_STATUS
from tercet.server.middleware.request_log import QUIET_PATHS
from tercet.server.request_account import RequestAccount, accounting

__all__ = ["Audit"]

POLLED = QUIET_PATHS | {"/security/status", "/alerts"}
LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
UNKNOWN_ROUTE = "-"


class Audit:
    """See the module.

    Args:
        app: what answers.
        auditing: where it is told.
        is_admins: whether only admins may use a route.
    """

    def __init__(self, app: ASGIApp, auditing: Auditing, is_admins: Callable[[Any], bool]) -> None:
        self.app = app
        self.auditing = auditing
        self.is_admins = is_admins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status, complete = 0, False

        async def watched(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        with accounting() as account:
            try:
                await self.app(scope, receive, watched)
            except Exception:
                scope["state"].setdefault("failed", "fault")
                raise
            finally:
                if status and not complete and "failed" not in scope["state"]:
                    scope["state"]["client_gone"] = True
                self._tell(scope, status or 500, time.monotonic() - began, account)

    def _is_admins(self, route: Any) -> bool:
        return route is not None and self.is_admins(route)

    def _tell(self, scope: Scope, status: int, seconds: float, account: RequestAccount) -> None:
        state = scope["state"]
        route = scope.get("route")
        kind: Kind
        reason = state.get("blocked") or (None if "failed" in state else REASON_OF_STATUS.get(status))
        if reason is not None:
            kind = "request.blocked"
        elif state.get("client_gone"):
            kind = "request.cancelled"
        elif status >= 500 or "failed" in state:
            kind = "request.failed"
        elif scope["method"] in LOOKING and (scope["path"] in POLLED or not self._is_admins(route)):
            return
        elif self._is_admins(route):
            kind = "admin.action"
        else:
            kind = "request.processed"
        found: dict[str, FieldValue] = {
            "reason": reason,
            "detail": state.get("blocked_detail") or state.get("failed"),
            "request_id": state.get("request_id"),
            "method": scope["method"],
            "route": UNKNOWN_ROUTE if route is None else getattr(route, "path", UNKNOWN_ROUTE),
            "status": status,
            "seconds": round(seconds, 4),
            **account.fields(),
        }
        fields = {name: value for name, value in found.items() if value is not None}
        self.auditing.events.emit(kind, self.auditing.client(scope), **fields)
