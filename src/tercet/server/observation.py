"""Watching over time: a sampler beside the event loop, whose history the operator's pages show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tercet.monitoring.monitor import ServiceMonitor

if TYPE_CHECKING:
    from tercet.server.settings import ServerSettings
    from tercet.service.service import Service

__all__ = ["watch"]


async def watch(service: Service, settings: ServerSettings) -> ServiceMonitor:
    """Begin to sample, in a thread: reading drivers and files for the first time takes a while.

    Where there is a collector of telemetry, it hears of every request from now on; what waits for it is sent
    when the process ends.
    """

    def begin() -> ServiceMonitor:
        if settings.otlp_endpoint is not None:
            from tercet.service.telemetry import Telemetry

            service.observe(Telemetry(settings.otlp_endpoint))
        monitor = ServiceMonitor(
            service.metrics,
            settings.sample_seconds,
            history=settings.history_file,
            alerts=settings.alerts.manager(),
        )
        monitor.start()
        return monitor

    return await asyncio.to_thread(begin)
