"""What happened that somebody may ask about later: kinds, callers and numbers, no word that anybody wrote.

    events = SecurityEvents(time.time)
    events.subscribe(metrics)                      # and the audit log: whatever takes a SecurityEvent
    events.emit("request.blocked", caller_hash, reason="rate_limit", status=429)

Kinds and reasons come from the closed sets of this module. A field is a number or a word; what is neither
arrives as `?`, so that no prompt, answer or line break gets into a log whoever passes it by mistake. Callers
are keyed hashes (`client_ids`), never keys or addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tercet.errors import ParameterError

__all__ = ["KINDS", "REASONS", "FieldValue", "Kind", "Reason", "SecurityEvent", "SecurityEvents"]

Kind = Literal[
    "server.started",
    "server.stopped",
    "request.processed",
    "request.failed",
    "request.cancelled",
    "request.blocked",
    "content.flagged",
    "content.redacted",
    "admin.action",
    "key.created",
    "key.revoked",
    "configuration.changed",
]
KINDS: tuple[str, ...] = get_args(Kind)

Reason = Literal[
    "unauthenticated",
    "forbidden",
    "foreign_host",
    "rate_limit",
    "parallelism",
    "invalid_input",
    "not_found",
    "too_large",
    "too_slow",
    "content_filtered",
    "response_filtered",
    "unavailable",
    "other",
]
REASONS: tuple[str, ...] = get_args(Reason)
"""Why a request was blocked; the label of the metrics."""

FieldValue = bool | int | float | str | None

MAX_FIELDS = 40
_WORD = re.compile(r"[A-Za-z0-9._:/+=@{}-]{0,128}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
NOT_A_WORD = "?"


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One thing that happened. `at` is in seconds since 1970, `caller` a keyed hash or empty."""

    kind: str
    at: float
    caller: str
    fields: Mapping[str, FieldValue]


class SecurityEvents:
    """Passes events on to whoever has subscribed, in order; one that fails does not keep them from others.

    Args:
        clock: seconds since 1970.
        on_fault: hears what a subscriber raised; what is blocked or answered does not depend on it.

    Attributes:
        num_faults: how often a subscriber has failed.
    """

    def __init__(
        self, clock: Callable[[], float], on_fault: Callable[[Exception], None] = lambda error: None
    ) -> None:
        self._clock = clock
        self._on_fault = on_fault
        self._sinks: list[Callable[[SecurityEvent], None]] = []
        self.num_faults = 0

    def subscribe(self, sink: Callable[[SecurityEvent], None]) -> None:
        """Have every further event passed to this, too."""
        self._sinks.append(sink)

    def unsubscribe(self, sink: Callable[[SecurityEvent], None]) -> None:
        """Pass it no more events."""
        self._sinks.remove(sink)

    def emit(self, kind: Kind, caller: str = "", **fields: FieldValue) -> None:
        """Tell of an event.

        Args:
            kind: one of `KINDS`.
            caller: the keyed hash of who did it; empty for the server itself.
            fields: numbers and words; of `request.blocked` the `reason`, one of `REASONS`.

        Raises:
            ParameterError: there is no such kind or reason, or there are too many fields.
        """
        if kind not in KINDS:
            raise ParameterError(f"an event is one of {', '.join(KINDS)}, not {kind!r}")
        if kind == "request.blocked" and fields.get("reason") not in REASONS:
            raise ParameterError(
                f"a request is blocked because of {', '.join(REASONS)}, not {fields.get('reason')!r}"
            )
        if len(fields) > MAX_FIELDS or not all(map(_NAME.fullmatch, fields)):
            raise ParameterError(f"an event has at most {MAX_FIELDS} fields, with lower-case names")
        plain = {name: _plain(value) for name, value in fields.items()}
        event = SecurityEvent(kind, self._clock(), str(_plain(caller)), plain)
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:
                self.num_faults += 1
                self._on_fault(error)


def _plain(value: FieldValue) -> FieldValue:
    """A number that JSON has, or a word; anything else, whatever its type, as one mark."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else NOT_A_WORD
    if isinstance(value, float):
        return value if abs(value) < float("inf") else NOT_A_WORD
    return value if isinstance(value, str) and _WORD.fullmatch(value) else NOT_A_WORD
