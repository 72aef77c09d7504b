"""Ollama's response objects."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from tercet.engine.result import GenerationResult

__all__ = ["final", "frame", "loaded", "timestamp"]

NANOSECONDS = 1_000_000_000
_DONE_REASONS = ("length", "content_filter")


def timestamp(seconds: float | None = None) -> str:
    """A time as Ollama writes it, in UTC; None is now."""
    moment = datetime.now(timezone.utc) if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def frame(model: str) -> dict[str, Any]:
    """What every object of an answer begins with; the model by the name that the request used."""
    return {"model": model, "created_at": timestamp()}


def final(result: GenerationResult) -> dict[str, Any]:
    """How a generation ended and what it took. Nothing was loaded for it."""
    parts = result.metadata.get("timings") or {}
    return {
        "done": True,
        "done_reason": result.finish_reason if result.finish_reason in _DONE_REASONS else "stop",
        "total_duration": _nanoseconds(result.generation_time_seconds),
        "load_duration": 0,
        "prompt_eval_count": result.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(parts.get("prefill_seconds")),
        "eval_count": result.generated_tokens,
        "eval_duration": _nanoseconds(parts.get("decode_seconds")),
    }


def loaded() -> dict[str, Any]:
    """The answer to a request that asks for nothing but the model to be there."""
    return {"done": True, "done_reason": "load"}


def _nanoseconds(seconds: float | None) -> int:
    """At least 1, since clients divide by it."""
    return max(1, round((seconds or 0.0) * NANOSECONDS))
