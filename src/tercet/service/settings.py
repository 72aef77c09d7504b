"""The bounds of a service. Everything that could grow has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tercet.errors import ParameterError

__all__ = ["ServiceSettings"]


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How much of everything.

    Raises:
        ParameterError: a bound is not above 0.
    """

    models: Mapping[str, str | None] = field(default_factory=lambda: {"": None})
    """Name -> file, folder or known model, loaded at start, the first being the default. An empty name
    takes the model's own; None is the model that ships with the package."""
    llm: Mapping[str, Any] = field(default_factory=dict)
    """Options of `tercet.LLM` for every model."""

    max_concurrent: int | None = 10
    """Requests that run at once in one model; the others wait. None: as many as the model's engine takes."""
    max_queued_requests: int = 512
    """Requests that may wait in one model; one more is refused with `OverloadedError`."""
    max_queued_tokens: int = 65_536
    """Tokens of prompts that may wait in one model. A single longer prompt may wait alone."""
    max_buffered_events: int = 4_096
    """Pieces that a slow reader may leave unread before its request is ended."""
    max_prompt_tokens: int | None = None
    """Longest prompt; a longer one is an error and never cut. None: whatever fits into the context."""

    timeout_seconds: float | None = 30.0
    """For a whole request that names none."""
    first_token_timeout_seconds: float | None = None
    """For the beginning of an answer to a request that names none."""
    drain_seconds: float = 30.0
    """How long requests may go on after the service, or a model of it, has been told to stop."""
    stuck_after_seconds: float = 30.0
    """An engine that has work and has not finished a step for so long counts as out of order."""

    response_cache: str | None = None
    """Where whole responses are remembered: "memory", a file of SQLite, a URL of Redis, or None for nowhere.
    Only greedy requests and those with a seed are."""
    max_cached_responses: int = 1_024
    cache_ttl_seconds: float = 3_600.0

    log_prompts: bool = False
    """Whether what people ask and what the model answers is written to the log. Otherwise none of it is."""
    log_requests: bool = True
    """Whether the log has a line for each request: ids and counts."""
    warm_up: bool = True
    """Whether a model answers a short prompt before it takes requests: its pages and kernels are touched."""

    def __post_init__(self) -> None:
        for bound in dataclasses.fields(self):
            value = getattr(self, bound.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
                raise ParameterError(f"{bound.name} is a number above 0, not {value!r}")
