"""What happens to requests, told to the metrics."""

from __future__ import annotations

from tercet.engine.async_engine import TokenEvent
from tercet.errors import (
    ContextLengthError,
    ModelNotFoundError,
    OverloadedError,
    ParameterError,
    UnavailableError,
    UnsupportedModelError,
)
from tercet.monitoring.metrics import ServiceMetrics
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest

__all__ = ["MetricsObserver", "failure_kind"]

_KINDS: dict[type[Exception], str] = {
    OverloadedError: "overloaded",
    UnavailableError: "unavailable",
    ContextLengthError: "context_length",
    ParameterError: "parameter",
    UnsupportedModelError: "unsupported",
    ModelNotFoundError: "model_not_found",
}


def failure_kind(error: BaseException) -> str:
    """One of the few words that metrics and logs have for why a request was refused."""
    return next((kind for known, kind in _KINDS.items() if isinstance(error, known)), "other")


class MetricsObserver:
    """Counts requests, as a `GenerationObserver`."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._models = metrics.models

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """Count a request that did not begin."""
        self._models[model].was_refused(failure_kind(error))

    def submitted(self, generation: Generation) -> None:
        """Count a request that waits or runs."""
        self._models[generation.model].began()

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Count the tokens of a piece, and its time."""
        if not generation.response_cached:
            is_first = generation.num_received == 0
            self._models[generation.model].received(len(event.token_ids), seconds, is_first)

    def settled(self, generation: Generation) -> None:
        """Count the end of a request."""
        model = self._models[generation.model]
        model.finished(generation.outcome or "cancelled", generation.summary, generation.num_received)
