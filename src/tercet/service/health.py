"""Whether the service can answer, found out by asking it.

`problem` is quick and for machines: None, or why requests cannot be answered now. It looks at the engine's
thread, since a server that takes requests while the thread behind it is dead says "healthy" to everybody and
answers nobody (vLLM's CVE-2026-114051). `report` is for people: it has a token generated, and tells the
figures.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tercet.errors import TercetError

if TYPE_CHECKING:
    from tercet.service.served_model import ServedModel
    from tercet.service.service import Service

__all__ = ["Health"]

PROBE_SECONDS = 5.0
"""How long the token of a probe may take; after that the service is busy."""
PROBE_MEMORY_SECONDS = 1.0
"""For so long the next reports give the same probe: looking often costs no more than looking."""


class Health:
    """The health of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._probed_at = float("-inf")
        self._probed: tuple[str, float | None] = ("busy", None)
        self._probing = asyncio.Lock()

    def problem(self) -> str | None:
        """Why requests cannot be answered now, None if they can."""
        service = self._service
        if service.state == "failed":
            return f"no model could be loaded: {service.failure or 'see the log'}"
        if service.state != "ready":
            return {"new": "loading", "stopped": "draining"}.get(service.state, service.state)
        return next(filter(None, map(self._problem_of, service.pool.models)), None)

    def _problem_of(self, model: ServedModel) -> str | None:
        engine = model.engine
        if not engine.is_alive:
            prospect = self._service.supervisor.prospect(engine)
            return f"the engine of {model.name} has stopped ({type(engine.failure).__name__}); {prospect}"
        age = engine.tick_age_seconds
        if age > self._service.settings.stuck_after_seconds:
            return f"the engine of {model.name} has not moved for {age:.0f} seconds"
        if model.llm.is_damaged:
            return f"the file of {model.name} has become shorter in use; put it back and restart"
        return None

    async def report(self, probe: bool = True) -> dict[str, Any]:
        """Everything an operator wants to see at once; `probe` has the default model generate a token.

        `status` is "healthy", "busy" (the probe's token did not come in time, and the engine moves),
        "loading", "draining" or "unhealthy".
        """
        service = self._service
        problem = self.problem()
        status = "healthy"
        if problem is not None:
            status = problem if problem in ("loading", "draining") else "unhealthy"
        milliseconds = None
        models = service.pool.models
        if probe and problem is None and models:
            status, milliseconds = await self._probe(models[0])
            if status == "unhealthy":
                problem = f"{models[0].name} could not generate a token; see the log"
        return {
            "status": status,
            "problem": problem,
            "model_loaded": bool(models),
            "tokenizer_loaded": any(model.has_tokenizer for model in models),
            "cache_enabled": service.cache is not None,
            "max_concurrent_requests": models[0].max_concurrent
            if models
            else service.settings.max_concurrent,
            "response_time_ms": milliseconds,
            "quantization": models[0].quantization if models else None,
            "models": [
                {
                    "name": model.name,
                    "state": model.state,
                    "quantization": model.quantization,
                    "max_context": model.llm.max_context,
                    "running": model.engine.num_running,
                    "waiting": model.engine.num_waiting,
                    "tick_age_seconds": model.engine.tick_age_seconds,
                }
                for model in models
            ],
            "metrics": service.metrics.summary(),
        }

    async def _probe(self, model: ServedModel) -> tuple[str, float | None]:
        """(status, milliseconds) of one token; callers that ask together share one."""
        async with self._probing:
            if time.monotonic() - self._probed_at < PROBE_MEMORY_SECONDS:
                return self._probed
            begin = time.perf_counter()
            try:
                await asyncio.wait_for(model.probe(), PROBE_SECONDS)
                self._probed = "healthy", 1000 * (time.perf_counter() - begin)
            except (asyncio.TimeoutError, TercetError):
                self._probed = ("busy" if self.problem() is None else "unhealthy"), None
            except Exception:
                self._probed = "unhealthy", None
            self._probed_at = time.monotonic()
            return self._probed
