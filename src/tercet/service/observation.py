"""What happens to requests, told to the metrics and to the log.

The log is the standard library's, under "tercet.requests"; `tercet.service.logs` makes JSON lines of it.
"""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

from tercet.engine.async_engine import TokenEvent
from tercet.errors import (
    ContentFilteredError,
    ContextLengthError,
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    ParameterError,
    TercetError,
    UnavailableError,
    UnsupportedModelError,
)
from tercet.monitoring.metrics import ServiceMetrics
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest

__all__ = ["LogObserver", "MetricsObserver", "failure_kind", "fault_fields"]

# A program that has not asked for a log gets none: without this, warnings would go to its console.
logging.getLogger("tercet").addHandler(logging.NullHandler())

_KINDS: dict[type[Exception], str] = {
    OverloadedError: "overloaded",
    UnavailableError: "unavailable",
    ContextLengthError: "context_length",
    ParameterError: "parameter",
    UnsupportedModelError: "unsupported",
    ModelNotFoundError: "model_not_found",
    ContentFilteredError: "content_filter",
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
        model = self._models[generation.counted_as]
        model.began()
        model.cache_hits += generation.response_cached
        model.cache_misses += generation.may_be_remembered and not generation.response_cached

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Count the tokens of a piece, and its time."""
        if not generation.response_cached:
            is_first = generation.num_received == 0
            self._models[generation.counted_as].received(len(event.token_ids), seconds, is_first)

    def settled(self, generation: Generation) -> None:
        """Count the end of a request."""
        model = self._models[generation.counted_as]
        model.finished(generation.outcome or "cancelled", generation.summary, generation.num_received)

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """Count a request for vectors."""
        counts = self._models[model]
        if error is None:
            counts.embedded("stop", num_tokens)
        elif isinstance(error, DeadlineError):
            counts.embedded("deadline")
        elif isinstance(error, Exception):
            counts.was_refused(failure_kind(error))
        else:  # who asked has gone
            counts.embedded("cancelled")


class LogObserver:
    """One line for every request that ends, as a `GenerationObserver`.

    Args:
        with_text: whether it has the text of request and answer; otherwise it has not a word of them.
    """

    def __init__(self, with_text: bool = False) -> None:
        self._with_text = with_text
        self._log = logging.getLogger("tercet.requests")

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """Tell of a request that did not begin."""
        fields = {"request_id": request.id, "model": model, "kind": failure_kind(error)}
        self._log.warning("request refused", extra=fields)

    def submitted(self, generation: Generation) -> None:
        """Tell of a request that waits or runs."""
        if self._log.isEnabledFor(logging.DEBUG):
            fields = {"request_id": generation.request.id, "model": generation.model}
            self._log.debug("request begun", extra={**fields, "prompt_tokens": generation.prompt_tokens})

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Pieces are not told of."""

    def settled(self, generation: Generation) -> None:
        """Tell how a request ended, and what it took."""
        result = generation.summary
        level = logging.ERROR if generation.outcome == "error" else logging.INFO
        self._log.log(
            level,
            "request finished",
            extra={
                "request_id": generation.request.id,
                "model": generation.model,
                "outcome": generation.outcome,
                "error": None if generation.error is None else type(generation.error).__name__,
                "prompt_tokens": result.prompt_tokens,
                "cached_tokens": result.cached_tokens,
                "generated_tokens": result.generated_tokens,
                "seconds": round(result.generation_time_seconds, 6),
                "first_token_seconds": round(result.time_to_first_token_seconds, 6),
                "tokens_per_second": round(result.tokens_per_second, 3),
                "response_cached": result.response_cached,
                **fault_fields(generation.error),
                **(_texts(generation) if self._with_text else {}),
            },
        )

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """Tell of a request for vectors."""
        fields = {"model": model, "prompt_tokens": num_tokens}
        if error is None:
            self._log.info("vectors made", extra=fields)
        else:
            self._log.warning("vectors not made", extra={**fields, "error": type(error).__name__})


def _texts(generation: Generation) -> dict[str, str]:
    """What was asked, and what came."""
    request = generation.request
    asked = request.prompt if request.messages is None else [dict(message) for message in request.messages]
    prompt = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False, default=repr)
    return {"prompt": prompt, "text": generation.summary.text}


def fault_fields(error: BaseException | None) -> dict[str, str]:
    """For a bug of ours: its kind and where it came up. Its message could have somebody's words in it."""
    bug = error.__cause__ if isinstance(error, TercetError) else error
    if bug is None:
        return {}
    frames = [
        f"{Path(one.filename).name}:{one.lineno} {one.name}"
        for one in traceback.extract_tb(bug.__traceback__)
    ]
    return {"bug": type(bug).__name__, "where": " > ".join(frames[-8:])}
