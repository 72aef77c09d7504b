"""What one HTTP request made the models do: its generations, in numbers.

A route may start one generation, or several (`n`), or none. They are found by the context in which they are
started, so no route has to tell; the account is there while the request is being answered, and forgotten
with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from starlette.types import Scope

from tercet.engine.async_engine import TokenEvent
from tercet.monitoring.metrics import ServiceMetrics
from tercet.security.events import FieldValue
from tercet.service.generation import Generation
from tercet.service.observation import failure_kind
from tercet.service.request import GenerationRequest

__all__ = ["AccountObserver", "RequestAccount", "accounting", "count_refusal"]

MODEL_PATHS = frozenset(
    {
        *("/v1/chat/completions", "/chat/completions", "/api/chat"),
        *("/v1/completions", "/completions", "/completion", "/infill", "/api/generate"),
        *("/v1/responses", "/responses"),
        *("/v1/embeddings", "/embeddings", "/embedding", "/api/embeddings", "/api/embed"),
    }
)
"""What asks a model for something."""


class RequestAccount:
    """The generations of one request."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []
        self.model = ""
        self.embedded_tokens = 0
        self.is_counted = False
        """Whether the metrics have heard of it."""

    def fields(self) -> dict[str, FieldValue]:
        """The numbers, as they are at this moment; nothing if no model was asked."""
        if not self.model:
            return {}
        results = [one.summary for one in self.generations]
        prompt_tokens = self.embedded_tokens + sum(one.prompt_tokens for one in results)
        return {
            "model": self.model,
            "generations": len(results),
            "prompt_tokens": prompt_tokens,
            "cached_tokens": sum(one.cached_tokens for one in results),
            "generated_tokens": sum(one.generated_tokens for one in results),
        }


_CURRENT: ContextVar[RequestAccount | None] = ContextVar("tercet_request_account", default=None)


@contextlib.contextmanager
def accounting() -> Iterator[RequestAccount]:
    """Give what is started in this block, and in tasks that it starts, an account."""
    account = RequestAccount()
    token = _CURRENT.set(account)
    try:
        yield account
    finally:
        _CURRENT.reset(token)


class AccountObserver:
    """Enters what begins into the account of the request that it is for, as a `GenerationObserver`."""

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """Nothing has begun."""
        if (account := _CURRENT.get()) is not None:
            account.is_counted = True

    def submitted(self, generation: Generation) -> None:
        """A request waits or runs."""
        if (account := _CURRENT.get()) is not None:
            account.is_counted = True
            account.model = generation.model
            account.generations.append(generation)

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Pieces are summed up at the end."""

    def settled(self, generation: Generation) -> None:
        """Its numbers are read at the end of the request."""

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """A request for vectors has ended."""
        if (account := _CURRENT.get()) is None:
            return
        account.is_counted = True
        if error is None:
            account.model = model
            account.embedded_tokens += num_tokens


def count_refusal(scope: Scope, error: BaseException) -> None:
    """Count a request that its route refused before a model heard of it: a body that says nothing, no model.

    What the doors refuse (no key, too many requests) is no request to a model, and counted by them.
    """
    account = _CURRENT.get()
    if account is None or account.is_counted or "route" not in scope or scope["path"] not in MODEL_PATHS:
        return
    account.is_counted = True
    kind = failure_kind(error)
    metrics: ServiceMetrics = scope["app"].state.service.metrics
    metrics.models[""].was_refused("parameter" if kind == "other" else kind)
