"""The process: open the port, load the model behind it, and at SIGTERM stop without cutting anybody off.

The port is open before the model is loaded, and requests are answered with 503 until then, since that is what
balancers and supervisors wait at. The end has three steps, as that of a database: refuse what is new (/readyz
says 503), let what runs finish for a while, end the rest with an error that its reader sees. A second signal
skips them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from tercet.errors import ParameterError
from tercet.server.access import require_keys_or_loopback
from tercet.server.app import create_app
from tercet.server.certificates import Certificates
from tercet.server.loop_lag import LoopLag
from tercet.server.observation import watch
from tercet.server.protocol import hardened_protocol
from tercet.server.settings import ServerSettings
from tercet.service.observation import fault_fields

if TYPE_CHECKING:
    from tercet.monitoring.monitor import ServiceMonitor
    from tercet.service.batch.jobs import BatchJobs
    from tercet.service.service import Service

__all__ = ["leave", "listen", "serve"]

LOG = logging.getLogger("tercet.server")
LAST_WORDS_SECONDS = 5
"""For the errors of those that were ended to reach their readers."""

ENGINE_THREAD = "tercet-engine"
UNREAD_BYTES = 128 * 1024
"""Of one connection, in the system's buffer."""


def listen(settings: ServerSettings) -> socket.socket:
    """Open the port, so that a port in use is known before anything is loaded.

    Raises:
        ParameterError: the address is not ours, or in use; or others can reach it, and there are no keys.
    """
    require_keys_or_loopback(settings, settings.host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        require_keys_or_loopback(settings, str(address[0]))  # whatever a name has led to
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What a reader who has stopped may fill; accepted connections have it from here.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        raise ParameterError(
            f"cannot listen at {settings.host} port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port"
        ) from error
    return opened


def serve(
    service: Service,
    settings: ServerSettings,
    opened: socket.socket | None = None,
    tell: Callable[[str], None] = lambda state: None,
) -> None:
    """Serve until a signal; returns after the drain.

    `tell` hears "listening" when requests and signals are heard, and "ready" when the models are loaded.

    Raises:
        TercetError: a model cannot be loaded, or the certificate or the keys cannot be used.
    """
    opened = opened or listen(settings)
    certificates = None
    if settings.tls_certificate is not None:
        certificates = Certificates(settings.tls_certificate, settings.tls_key)
    app = create_app(service, settings)
    _build_routes(app)
    config = uvicorn.Config(
        app,
        http=hardened_protocol(settings),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )
    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Forwarded(logging.ERROR)], False
    config.load()
    config.ssl = None if certificates is None else certificates.context
    server = DrainingServer(config, app, tell, certificates)
    server.run(sockets=[opened])
    if server.failure is not None:
        raise server.failure


def leave() -> None:
    """End the process here if an engine is still inside a step that outlasted its stop.

    Python would end under it, and it would come back into an interpreter that is gone.
    """
    if any(thread.name == ENGINE_THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Forwarded(logging.Handler):
    """Errors of what we stand on go into our own log; its warnings are about clients, who are counted."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it again, as ours: its first line, and of an exception kind and place, not its words."""
        error = record.exc_info[1] if record.exc_info else None
        words = record.getMessage().partition("\n")[0]
        LOG.error(record.name, extra={"words": words, **fault_fields(error)})


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with a model that loads while the port is open, and a drain at its end."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        tell: Callable[[str], None],
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__(config)
        self.certificates = certificates
        self.app = app
        self.batches: BatchJobs | None = app.state.batches
        self.service: Service = app.state.service
        self.settings: ServerSettings = app.state.settings
        self.tell = tell
        self.failure: BaseException | None = None
        self.monitor: ServiceMonitor | None = None
        self._signalled = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; as uvicorn does, which would leave a handshake of TLS a minute."""
        if self.certificates is None:
            await super().startup(sockets)
            return
        loop = asyncio.get_running_loop()
        protocol = functools.partial(  # type: ignore[call-arg]
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=one,
                ssl=self.config.ssl,
                backlog=self.config.backlog,
                ssl_handshake_timeout=self.settings.header_timeout_seconds,
            )
            for one in sockets or []
        ]
        self.started = True

    async def main_loop(self) -> None:
        """Load, and serve until a signal."""
        lag = LoopLag(self.service.metrics.observe_event_loop_lag)
        self.app.state.loop_lag = lag
        self.app.state.auditing.begin()
        self.app.state.monitor = self.monitor = await watch(self.service, self.settings)
        self.tell("listening")
        loading = asyncio.ensure_future(self._load())
        watching = asyncio.ensure_future(self._watch_certificates())
        await super().main_loop()
        lag.stop()
        watching.cancel()
        self.service.begin_drain()
        if self.batches is not None:
            await self.batches.stop()  # they go on when the server is started again
        await asyncio.sleep(self.settings.drain_delay_seconds if self.failure is None else 0)
        if not loading.done():
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let requests finish, end the rest."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.service.stop(self.settings.drain_seconds)
        if self.monitor is not None:
            await asyncio.to_thread(self.monitor.close)  # after the last request has been counted
        await super().shutdown(sockets)
        self.app.state.auditing.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends the process."""
        if self._signalled:
            sys.stderr.flush()
            os._exit(128 + sig)
        self._signalled = True
        self.should_exit = True
        self.service.begin_drain()

    async def _watch_certificates(self) -> None:
        if self.certificates is not None:
            emit = self.app.state.security_events.emit
            changed = functools.partial(emit, "configuration.changed", "", what="tls")
            await self.certificates.watch(self.settings.tls_check_seconds, changed)

    async def _load(self) -> None:
        try:
            await self.service.start()
        except Exception as error:
            self.failure = error
            self.should_exit = True
        else:
            if self.batches is not None:
                self.batches.start()
            await _settle()
            self.tell("ready")


def _build_routes(app: FastAPI) -> None:
    """Have FastAPI build the included routes now: it would in the first request, 50 ms in the event loop."""
    nobody: Scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nobody)


async def _settle() -> None:
    """Have done by now what would keep the event loop later, in the middle of somebody's answer."""
    await run_in_threadpool(gc.collect)  # the first call imports what runs the threads
    gc.freeze()  # programs and models stay as long as the process: no collection need look through them
