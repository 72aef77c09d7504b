"""The HTTP side: a request comes in, a replica answers it, its messages go out as they come.

full queue                                    429 and Retry-After: come back, or ask elsewhere
a replica dies before its answer begins       another is asked, where asking twice changes nothing
a replica dies in the middle of its answer    the connection ends without the end of the answer
the client goes away                          the replica stops working for it
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tercet.deployment.ray_serve.prefixes import prefix_hashes
from tercet.server.errors import ApiError, error_response
from tercet.server.middleware.departure import Departure
from tercet.server.middleware.upload import Upload
from tercet.server.settings import ServerSettings

__all__ = ["front_door"]

LOG = logging.getLogger("tercet.server")
TRIES = 3
WAIT_SECONDS = 1.0
"""What a client is told to wait when the queue is full, at least."""
_PASSED_ON = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers",
    "client", "server",
)  # fmt: skip


def front_door(replicas: Any, settings: ServerSettings) -> Any:
    """Make the ASGI application over the handle of a deployment of `Model`."""
    return _Lifespan(Upload(Departure(_Door(replicas)), settings))


class _Door:
    def __init__(self, replicas: Any) -> None:
        self._answer = replicas.options(method_name="answer", stream=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = dict(scope["headers"])
        caller = headers.get(b"authorization", b"") + headers.get(b"x-api-key", b"")
        hashes = prefix_hashes(body, caller) if body else ()
        shown = {name: scope[name] for name in _PASSED_ON if name in scope} | {"root_path": ""}
        # To generate again, or to look again, does no harm; to load an adapter twice might.
        tries = TRIES if hashes or scope["method"] in ("GET", "HEAD", "OPTIONS") else 1
        try:
            await self._pass_on(hashes, shown, body, send, tries)
        except ApiError as error:
            await error_response(error)(scope, receive, send)

    async def _pass_on(
        self, hashes: tuple[int, ...], scope: dict[str, Any], body: bytes, send: Any, tries: int
    ) -> None:
        while True:
            tries -= 1
            begun = False
            answer = self._answer.remote(hashes, scope, body)
            try:
                async for message in answer:
                    begun = True
                    await send(message)
                return
            except BackPressureError as error:
                raise ApiError(
                    429,
                    "all replicas are busy and enough requests wait; try again in a moment",
                    code="overloaded",
                    retry_after_seconds=WAIT_SECONDS,
                ) from error
            except (RayActorError, DeploymentUnavailableError) as error:
                LOG.warning("replica lost", extra={"error": type(error).__name__, "begun": begun})
                if begun:
                    raise  # Ray ends the connection, and the reader sees that the end is missing
                if not tries:
                    raise ApiError(
                        503,
                        "the replica that was to answer is gone; try again in a moment",
                        code="unavailable",
                        retry_after_seconds=WAIT_SECONDS,
                    ) from error
            finally:
                with contextlib.suppress(Exception):
                    answer.cancel()  # does nothing where it has ended


class _Lifespan:
    """What Ray asks of an application before the first request, and after the last."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
