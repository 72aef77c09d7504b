"""The slowest requests of the last day, to look into: what took how long, and whose it was, as a keyed hash.

It hears of requests twice: of their parts when a generation ends, of the whole, with the client's hash, as
the event that the audit log gets. No text of anybody is in either.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tercet.engine.async_engine import TokenEvent
from tercet.security.events import SecurityEvent
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest

__all__ = ["SlowRequests"]

MOST = 50
KEPT_SECONDS = 86_400.0
MOST_OPEN = 1000
PARTS = ("preparation_seconds", "queue_seconds", "prefill_seconds", "decode_seconds")
FIELDS = ("request_id", "route", "status", "seconds", "model", "prompt_tokens", "cached_tokens")


class SlowRequests:
    """Subscribe `record` to the events, and have the service tell of generations (`GenerationObserver`)."""

    def __init__(self) -> None:
        self._parts: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._slowest: list[dict[str, Any]] = []

    def slowest(self, since: float = float("-inf")) -> list[dict[str, Any]]:
        """Requests that ended after a time, the slowest first; from any thread."""
        return sorted(
            (one for one in list(self._slowest) if one["time"] > since), key=lambda one: -one["seconds"]
        )

    def record(self, event: SecurityEvent) -> None:
        """A request has ended; those that asked no model are passed over."""
        if not event.fields.get("model"):
            return
        found: dict[str, Any] = {name: event.fields.get(name) for name in FIELDS}
        found["generated_tokens"] = event.fields.get("generated_tokens")
        parts = self._parts.pop(str(found["request_id"]), dict.fromkeys(PARTS))
        found.update(time=event.at, client=event.caller, ended=event.kind.partition(".")[2], **parts)
        kept = [one for one in self._slowest if event.at - one["time"] < KEPT_SECONDS]
        kept.append(found)
        if len(kept) > MOST:
            kept.remove(min(kept, key=lambda one: float(one["seconds"])))
        self._slowest = kept

    def settled(self, generation: Generation) -> None:
        """An answer has ended: its parts are kept until the whole request has."""
        timings = generation.summary.metadata.get("timings", {})
        self._parts[generation.request.id] = {name: timings.get(name) for name in PARTS}
        while len(self._parts) > MOST_OPEN:
            self._parts.popitem(last=False)

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """It did not become slow."""

    def submitted(self, generation: Generation) -> None:
        """Its end is what counts."""

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Pieces are not told of."""

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """The event tells of vectors."""
