"""A replica: the service and the application of `tercet serve`, called by Ray in place of a port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from tercet.server.app import create_app
from tercet.server.settings import ServerSettings
from tercet.service.logs import configure
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

__all__ = ["Model"]

Message = MutableMapping[str, Any]
LAST_WORDS_SECONDS = 5.0


class Model:
    """What runs in each replica's process.

    Raises:
        TercetError: the model cannot be loaded; Ray shows the message as that of the deployment.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, service: ServiceSettings, server: ServerSettings, log_level: str = "info"
    ) -> None:
        self._logs = configure(log_level)
        self._service = Service(service)
        self._app = create_app(self._service, server)
        self._app.state.auditing.begin()
        await self._service.start()

    async def answer(
        self, hashes: tuple[int, ...], scope: dict[str, Any], body: bytes
    ) -> AsyncIterator[Message]:
        """Give the messages of an answer as ASGI has them; a caller that goes away ends the work.

        Args:
            hashes: of the prompt, for `PrefixRouter`.
            scope: of the request.
            body: all of it.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        request: asyncio.Queue[Message] = asyncio.Queue()
        request.put_nowait({"type": "http.request", "body": body, "more_body": False})

        async def run() -> None:
            try:
                await self._app(scope | {"state": {}}, request.get, messages.put)
            finally:
                messages.put_nowait(None)

        running = asyncio.create_task(run())
        try:
            while (message := await messages.get()) is not None:
                yield message
            await running
        finally:
            request.put_nowait({"type": "http.disconnect"})
            await asyncio.wait({running}, timeout=LAST_WORDS_SECONDS)
            running.cancel()

    def check_health(self) -> None:
        """Called by Ray; a replica whose engine is out of order gets another in its place.

        Raises:
            RuntimeError: it is.
        """
        problem = self._service.health.problem() if self._service.state == "ready" else None
        if problem is not None:
            raise RuntimeError(problem)

    async def __del__(self) -> None:
        """Called by Ray when no request runs any more."""
        await self._service.stop(0)
        self._logs.close()
