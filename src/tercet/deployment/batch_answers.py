"""Who answers the requests of a batch: a model in this process, behind the server's routes if need be."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tercet.service.batch.generation import ModelAnswer
from tercet.service.batch.lines import BatchLine, Outcome
from tercet.service.batch.run import Answer
from tercet.service.settings import ServiceSettings

__all__ = ["batch_settings", "open_answer"]


def batch_settings(model: str | None, llm: Mapping[str, Any]) -> ServiceSettings:
    """Return the settings of a model that nobody else uses and nobody waits for: no limits.

    Args:
        model: name or path; None is the model that ships with the package.
        llm: options of `tercet.LLM`.
    """
    return ServiceSettings(
        models={"": model},
        llm=llm,
        max_concurrent=None,
        max_queued_requests=1 << 20,
        max_queued_tokens=1 << 40,
        timeout_seconds=None,
        warm_up=False,
        drain_seconds=1e-3,
    )


@asynccontextmanager
async def open_answer(
    settings: ServiceSettings,
    defaults: Mapping[str, Any],
    as_server: bool,
    loading: contextlib.AbstractContextManager[object] | None = None,
) -> AsyncIterator[tuple[Answer, int]]:
    """Load the model; who answers, and how many requests at once.

    Args:
        settings: of `batch_settings`.
        defaults: sampling of requests that say nothing of it.
        as_server: whether there are requests of OpenAI's form, which need the server's routes.
        loading: entered while the model is loaded.

    Raises:
        TercetError: the model cannot be loaded.
        MissingExtraError: the server's packages are needed, and not installed.
    """
    if not as_server:
        from tercet.service.served_model import ServedModel

        with loading or contextlib.nullcontext():
            ((name, path),) = settings.models.items()
            model = await ServedModel.open(name, path, settings)
        try:
            yield ModelAnswer(model.submit, defaults), model.max_concurrent
        finally:
            await model.close(0)
        return

    from tercet.environment import optional_import

    for module in ("fastapi", "structlog", "prometheus_client"):
        optional_import(module, "server")
    from tercet.server.batches.inner import AppAnswer
    from tercet.server.batches.opening import inner_app
    from tercet.server.settings import ServerSettings
    from tercet.service.service import Service

    service = Service(settings)
    with loading or contextlib.nullcontext():
        await service.start()
    try:
        served = service.pool.get(None)
        plain = ModelAnswer(service.submit, defaults)
        openai = AppAnswer(inner_app(service, ServerSettings()), model=served.name)

        async def answer(line: BatchLine) -> Outcome:
            return await (plain if line.url is None else openai)(line)

        yield answer, served.max_concurrent
    finally:
        await service.stop(0)
