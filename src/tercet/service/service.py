"""What a server holds, and `AsyncLLM` too: the models, the limits and the account of everything."""

from __future__ import annotations

import asyncio
import dataclasses
from types import TracebackType
from typing import Literal

from tercet.errors import ForbiddenError, TercetError, UnavailableError
from tercet.monitoring.metrics import ServiceMetrics
from tercet.security.identity import Caller, current_caller
from tercet.service.generation import Generation, GenerationObserver
from tercet.service.health import Health
from tercet.service.observation import LogObserver, MetricsObserver
from tercet.service.pool import ModelPool
from tercet.service.request import GenerationRequest
from tercet.service.response_cache import ResponseCache
from tercet.service.served_model import ServedModel
from tercet.service.settings import ServiceSettings
from tercet.service.supervisor import Supervisor

__all__ = ["Service", "State"]

State = Literal["new", "loading", "ready", "draining", "stopped", "failed"]


class Service:
    """Several models behind one door. Used from one event loop.

        async with Service(ServiceSettings()) as service:
            generation = await service.submit(GenerationRequest(prompt="Once upon a time"))
            print((await generation.result()).text)

    Attributes:
        settings: the limits.
        pool: the models.
        metrics: what is counted.
        supervisor: what puts a new engine in the place of one that has died.
        health: whether requests can be answered.
        cache: what remembers responses, None where nothing does or before the start.
        state: "loading" and "draining" while that goes on; requests are taken when it is "ready".
        failure: what kept the models from being loaded, None as long as nothing did.
    """

    def __init__(self, settings: ServiceSettings | None = None) -> None:
        self.settings = settings or ServiceSettings()
        self.metrics = ServiceMetrics()
        self.cache: ResponseCache | None = None
        self._observers: list[GenerationObserver] = [MetricsObserver(self.metrics)]
        if self.settings.log_requests:
            self._observers.append(LogObserver(with_text=self.settings.log_prompts))
        self.pool = ModelPool(self.settings, metrics=self.metrics, observers=self._observers)
        self.supervisor = Supervisor(self.pool)
        self.health = Health(self)
        self.state: State = "new"
        self.failure: TercetError | None = None
        self._stopping = False

    async def start(self) -> None:
        """Load the models of the settings, one after the other; requests are taken from then on.

        Raises:
            TercetError: what is wrong with a model. Nothing is loaded then.
        """
        self.state = "loading"
        try:
            if self.settings.response_cache is not None:
                await self._open_cache(self.settings.response_cache)
            for name, path in self.settings.models.items():
                await self.pool.load(name, path)
        except BaseException as error:
            self.state = "failed"
            self.failure = error if isinstance(error, TercetError) else None
            await self.pool.close(0)
            raise
        if self.state == "loading":  # and nobody has begun to drain meanwhile
            self.state = "ready"
            self.supervisor.start()

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request in the model that it names; raises what `ServedModel.submit` does.

        It is the current caller's (`tercet.security.identity`): it waits in his turn, and shares what is kept
        of prompts and answers with no other.

        Raises:
            ForbiddenError: the caller may not use the model, or an adapter.
            ModelNotFoundError: no model has the name.
            UnavailableError: the service is loading or draining.
        """
        try:
            if self.state != "ready":
                raise UnavailableError(
                    f"the service is {self.state} and takes no requests now; try again in a moment"
                )
            caller = current_caller()
            model = self.pool.get(request.model)
            request = _owned(request, caller, model)
        except TercetError as error:
            for observer in self._observers:
                observer.refused("", request, error)
            raise
        return await model.submit(request)

    def observe(self, observer: GenerationObserver) -> None:
        """Have somebody else hear of every request from now on."""
        self._observers.append(observer)

    def begin_drain(self) -> None:
        """Take no more requests; what runs goes on. A signal handler may call this."""
        if self.state not in ("stopped", "failed"):
            self.state = "draining"

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Take no more requests, let those that run finish for a while, end the rest, free everything."""
        if self._stopping:
            return
        self._stopping = True
        self.begin_drain()
        await self.supervisor.stop()
        try:
            await self.pool.close(drain_seconds)
        finally:
            self.state = "stopped"
            if self.cache is not None:
                await self.cache.close()

    async def _open_cache(self, where: str) -> None:
        from tercet.service.cache_stores import open_store

        settings = self.settings
        bounds = settings.max_cached_responses, settings.cache_ttl_seconds
        self.cache = ResponseCache(await asyncio.to_thread(open_store, where, *bounds))
        await self.cache.open()
        self.pool.cache = self.metrics.cache = self.cache

    async def __aenter__(self) -> Service:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(self.stop(0 if error is not None else None))


def _owned(request: GenerationRequest, caller: Caller, model: ServedModel) -> GenerationRequest:
    """The request as that of its caller; ForbiddenError where it asks for adapters that are not for him."""
    if request.adapters is not None and not caller.may_use(model.base_name):
        names = list(request.adapters)  # none of them would be the model without any
        if not names or not all(caller.may_use(name) for name in names):
            raise ForbiddenError("this key is not for the model with these adapters")
    if caller.is_local:
        return request
    return dataclasses.replace(request, tenant=caller.key_id, cache_salt=caller.salt(request.cache_salt))
