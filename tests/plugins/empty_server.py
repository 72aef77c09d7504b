"""The real application with no model behind it: for what is decided before a model is asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI

from tercet.monitoring.metrics import ServiceMetrics
from tercet.server.app import create_app
from tercet.server.settings import ServerSettings


def application(settings: ServerSettings) -> FastAPI:
    service: Any = SimpleNamespace(state="ready", metrics=ServiceMetrics(), observe=lambda observer: None)
    return create_app(service, settings)


def asked(app: Any, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """The answer of the application, or 500 where it raises for want of a model."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", trust_env=False
        ) as client:
            body = b"{}" if method == "POST" else None
            return await client.request(method, path, headers=headers, content=body)

    return asyncio.run(ask())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
