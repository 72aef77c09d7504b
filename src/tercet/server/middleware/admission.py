"""Work is refused while there is nobody to do it: loading, draining, or a model that could not be loaded.

This comes before the body is read, so a client that is refused has not uploaded anything. Looking (health,
metrics, the page) is always possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from tercet.server.errors import ApiError, error_response

if TYPE_CHECKING:
    from tercet.service.service import Service

__all__ = ["Admission"]

WORDS = {
    "new": "the model is loading",
    "loading": "the model is loading",
    "draining": "the server is shutting down",
    "stopped": "the server is shutting down",
    "failed": "the model could not be loaded",
}


class Admission:
    """See the module."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with 503."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            words = WORDS.get(self.service.state)
            if words is not None:
                error = ApiError(
                    503, f"{words}; try again in a moment", code="unavailable", retry_after_seconds=2
                )
                await error_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)
