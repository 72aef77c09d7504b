"""Nothing answers anybody who is not known: every address, every kind of connection, before it is looked at.

The caller that a key belongs to is at `request.state.caller` and is the current caller of all that runs for
the request (`tercet.security.identity`). Routes of operators ask for an admin's key (`authorization`).

    no key, or not a good one    401
    not for this role            403
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tercet.security.identity import ANONYMOUS, Caller, calling
from tercet.server.access import Access, UnauthenticatedError
from tercet.server.authorization import HEALTH_PATHS, METRICS_PATH, RoleTable
from tercet.server.errors import ApiError, error_response, note_error

__all__ = ["Authentication"]

POLICY_VIOLATION = 1008
"""With which a WebSocket is closed (RFC 6455, 7.4.1)."""
PAGE = "/"
"""Where a browser is told to ask its user for a key; it then sends it with whatever the page asks for."""


class Authentication:
    """See the module.

    Args:
        app: what lies behind the door.
        access: who may come in.
        roles: gives the table of the application, when all its routes are there.
        open_health: whether health needs no key.
        open_metrics: whether the figures need none.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        roles: Callable[[], RoleTable],
        open_health: bool = False,
        open_metrics: bool = False,
    ) -> None:
        self.app = app
        self.access = access
        self.roles = roles
        self.open_paths = (HEALTH_PATHS if open_health else frozenset()) | (
            {METRICS_PATH} if open_metrics else frozenset()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on for its caller, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            caller = self._caller(scope)
        except ApiError as error:
            note_error(scope, error)
            if isinstance(error, UnauthenticatedError):
                scope["state"]["blocked_detail"] = error.kind
            if scope["type"] == "http":
                await error_response(error)(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        scope.setdefault("state", {})["caller"] = caller
        with calling(caller):
            await self.app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        """Who asks, and may; ApiError where nobody, or not for this."""
        if scope.get("tercet.internal"):
            found: Caller = scope["tercet.caller"]
            return found
        path, method = scope["path"], scope.get("method", "")
        if path in self.open_paths and method in ("GET", "HEAD"):
            return ANONYMOUS
        caller = self.access.caller_of(Headers(scope=scope), asks_browser=path == PAGE)
        if self.roles().needed(scope) == "admin" and not caller.is_admin:
            raise ApiError(403, "this is for operators: it takes the key of an admin", code="admin_required")
        return caller
