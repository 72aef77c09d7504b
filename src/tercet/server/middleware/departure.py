"""A client that goes away ends the work for it.

While a route computes, this listens at the connection; when the client has gone, the route is cancelled,
whatever it was waiting for, and its `finally` gives back what it held (a `Generation` cancels its sequence).
So no route has to ask whether anybody still listens.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Departure"]


class Departure:
    """See the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the route until it is done or the client has gone."""
        if scope["type"] != "http" or scope.get("tercet.internal") or scope.get("tercet.streamed"):
            await self.app(scope, receive, send)
            return
        gone = asyncio.Event()
        route = asyncio.current_task()
        body = await receive()  # in one piece: `upload` has read it
        if body["type"] == "http.disconnect":
            scope["state"]["client_gone"] = True
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return body
            await gone.wait()
            return {"type": "http.disconnect"}

        finished = False

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not finished:
                scope["state"]["client_gone"] = True
            gone.set()
            if not finished and route is not None:
                route.cancel()

        async def watched(message: Message) -> None:
            nonlocal finished
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                finished = True
            await send(message)

        listener = asyncio.ensure_future(listen())
        try:
            await self.app(scope, replay, watched)
        except asyncio.CancelledError:
            if not scope["state"].get("client_gone"):
                raise
            # Not our own end but the client's: the task has done what cancelling was for.
        finally:
            listener.cancel()
