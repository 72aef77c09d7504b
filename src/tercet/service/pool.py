"""Several models by name: load one, unload one, replace one without a gap.

Who asks for a model gets it if he may: the pool asks `tercet.security.identity` who the current caller is, so
a caller with a scope sees and uses the models of that scope, whatever route he comes by.

A model is complete before its name leads to it: opened, its engine started, warmed up. Replacing opens the
new file first, so for a while both are in memory; then the name leads to the new one, and the old one is
drained: what runs there goes on to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from tercet.errors import ForbiddenError, ModelNotFoundError, ParameterError, UnavailableError
from tercet.monitoring.metrics import ServiceMetrics
from tercet.security.identity import current_caller
from tercet.service.generation import GenerationObserver
from tercet.service.response_cache import ResponseCache
from tercet.service.served_model import ServedModel
from tercet.service.settings import ServiceSettings

__all__ = ["ModelPool"]

_LOG = logging.getLogger("tercet.models")


class ModelPool:
    """The models of one service. Used from one event loop.

    Args:
        settings: the limits of every model.
        observers: who hears of every request.
        metrics: what counts for every model, if anything does.
    """

    def __init__(
        self,
        settings: ServiceSettings | None = None,
        *,
        observers: Sequence[GenerationObserver] = (),
        metrics: ServiceMetrics | None = None,
    ) -> None:
        self.settings = settings or ServiceSettings()
        self.cache: ResponseCache | None = None
        """Remembers responses, of the models that are loaded after it has been set."""
        self._metrics = metrics
        self._observers = observers
        self._models: dict[str, ServedModel] = {}
        self._loading: set[str] = set()
        self._draining: set[asyncio.Task[None]] = set()

    def get(self, name: str | None = None) -> ServedModel:
        """Return the model of a name, or for None the first that the current caller may use.

        The name may be that of an adapter: it leads to the first model that has it, as it answers with it.

        Raises:
            ForbiddenError: the caller may not use it, or would not if there were one.
            ModelNotFoundError: no model has this name; the message lists those that there are.
            UnavailableError: it is being loaded for the first time.
        """
        if name is None:
            if entries := self.entries:
                return entries[0]
            if self._models:
                raise ForbiddenError("this key is for none of the models that are loaded")
            if self._loading:
                raise UnavailableError("the model is loading; try again in a moment")
            raise ModelNotFoundError("no model is loaded; load one first")
        found = self._find(name)
        if not current_caller().may_use(name, *(() if found is None else (found.base_name,))):
            raise ForbiddenError(f"this key is not for a model {name[:200]!r}")  # whether there is one or not
        if found is not None:
            return found
        if name in self._loading:
            raise UnavailableError(f"the model {name} is loading; try again in a moment")
        known = [entry.name for entry in self.entries]
        raise ModelNotFoundError(f"there is no model {name!r} here; there are {', '.join(known) or 'none'}")

    def _find(self, name: str) -> ServedModel | None:
        if name in self._models:
            return self._models[name]
        models = self._models.values()
        return next((model.under(name) for model in models if name in model.llm.adapters), None)

    def _own(self, name: str) -> ServedModel:
        model = self.get(name)
        if model.adapter is not None:
            raise ParameterError(
                f"{name} is an adapter of the model {model.base_name}, and no model of its own"
            )
        return model

    def names(self) -> list[str]:
        """Names of the models that are ready, the default first."""
        return list(self._models)

    @property
    def models(self) -> list[ServedModel]:
        """The models that are ready, the default first."""
        return list(self._models.values())

    @property
    def entries(self) -> list[ServedModel]:
        """All that the current caller may name: the models that are ready, each before its adapters."""
        caller = current_caller()
        return [
            entry
            for model in self._models.values()
            for entry in (model, *(model.under(name) for name in model.llm.adapters.names))
            if caller.may_use(entry.name, model.name)
        ]

    @property
    def is_loading(self) -> bool:
        """Whether some model is being loaded."""
        return bool(self._loading)

    async def load(self, name: str, path: str | None) -> ServedModel:
        """Open a model and offer it under a name; an empty name takes the model's own.

        Raises:
            ParameterError: the name is taken.
            ModelNotFoundError, FormatError, UnsupportedModelError, MemoryLimitError: see `tercet.LLM`.
        """
        if name and (name in self._models or name in self._loading):
            raise ParameterError(f"a model {name} is loaded already; unload it first, or reload it")
        model = await self._open(name, path)
        if model.name in self._models:
            await model.close(0)
            raise ParameterError(f"a model {model.name} is loaded already; give this one another name")
        self._offer(model)
        return model

    async def unload(self, name: str, drain_seconds: float | None = None) -> None:
        """Take a model's name away, let what runs there finish, and free its memory.

        Raises:
            ModelNotFoundError: no model has this name.
        """
        model = self._own(name)
        del self._models[name]
        await self._close(model, drain_seconds)

    async def reload(self, name: str, path: str | None = None) -> ServedModel:
        """Replace a model by the file at `path`, or by what its own path now holds, without a gap.

        Returns as soon as the new model answers; the old one is drained behind its back. If the new file
        cannot be opened, the old model stays.

        Raises:
            ModelNotFoundError, FormatError, UnsupportedModelError, MemoryLimitError: see `tercet.LLM`.
        """
        old = self._own(name)
        model = await self._open(name, str(old.llm.path) if path is None else path)
        replaced = self._models.get(name)
        self._offer(model)
        if replaced is not None:
            task = asyncio.create_task(self._close(replaced))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
        return model

    async def close(self, drain_seconds: float | None = None) -> None:
        """Unload every model, all at once."""
        models, self._models = list(self._models.values()), {}
        await asyncio.gather(*(self._close(model, drain_seconds) for model in models))
        await asyncio.gather(*self._draining)

    async def _open(self, name: str, path: str | None) -> ServedModel:
        self._loading.add(name)
        begin = time.perf_counter()
        try:
            model = await ServedModel.open(
                name, path, self.settings, observers=self._observers, cache=self.cache
            )
            told = {"model": model.name, "path": str(model.llm.path), "quantization": model.quantization}
            seconds = round(time.perf_counter() - begin, 3)
            _LOG.info("model loaded", extra={**told, "isa": model.llm.isa, "seconds": seconds})
            return model
        except Exception as error:
            told = {"model": name, "path": path or "", "error": f"{type(error).__name__}: {error}"}
            _LOG.error("model not loaded", extra=told)
            raise
        finally:
            with contextlib.suppress(KeyError):
                self._loading.remove(name)

    def _offer(self, model: ServedModel) -> None:
        if self._metrics is not None:
            self._metrics.watch(model.name, model.engine, model.llm.max_context)
        self._models[model.name] = model

    async def _close(self, model: ServedModel, drain_seconds: float | None = None) -> None:
        running = model.engine.num_running + model.engine.num_waiting
        _LOG.info("model drains", extra={"model": model.name, "requests": running})
        try:
            await model.close(drain_seconds)
        finally:
            if self._metrics is not None:
                self._metrics.forget(model.name, model.engine)
            _LOG.info("model unloaded", extra={"model": model.name})
