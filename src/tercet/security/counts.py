"""Security in numbers: how many clients, what was answered, what was blocked and why.

    counts = SecurityCounts(time.monotonic)
    events.subscribe(counts.record)

Every set of names is closed and every memory bounded, whoever sends whatever: reasons come from `REASONS`,
clients are counted up to `MAX_CLIENTS` ("at least"), and the last hour is sixty counters, one for each minute
of a clock that nobody can set.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from tercet.security.events import KINDS, REASONS, SecurityEvent

__all__ = ["SecurityCounts"]

MAX_CLIENTS = 100_000
MINUTE_SECONDS = 60.0
MINUTES = 60
CONTENT_KINDS = {"content.flagged": "flagged", "content.redacted": "redacted"}


class SecurityCounts:
    """Counts events.

    Args:
        clock: seconds that never go back.

    Attributes:
        events: how often each kind of event came.
        blocked: how many requests were refused, by reason.
        content: pieces of text that filters changed or marked, by (action, category); the categories are
            those of the operator's policies.
        configuration: the settings in force, by name.
        audit_errors: events that the audit log could not take.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._clients: set[str] = set()
        self._minutes: deque[tuple[int, int]] = deque(maxlen=MINUTES)
        self.events: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.blocked: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.content: Counter[tuple[str, str]] = Counter()
        self.configuration: Mapping[str, Any] = {}
        self.audit_errors = 0

    def record(self, event: SecurityEvent) -> None:
        """Count an event."""
        self.events[event.kind] += 1
        if event.caller and len(self._clients) < MAX_CLIENTS:
            self._clients.add(event.caller)
        if event.kind in CONTENT_KINDS:
            for category, count in event.fields.items():
                if isinstance(count, int):
                    self.content[CONTENT_KINDS[event.kind], category] += count
        if event.kind == "request.blocked":
            self.blocked[str(event.fields["reason"])] += 1
            minute = self._minute()
            before = self._minutes.pop()[1] if self._minutes and self._minutes[-1][0] == minute else 0
            self._minutes.append((minute, before + 1))

    @property
    def unique_clients(self) -> int:
        """Clients that were seen since the start, or within the bound."""
        return len(self._clients)

    @property
    def blocked_last_hour(self) -> int:
        """Requests refused within the last sixty minutes, to the minute."""
        now = self._minute()
        return sum(count for minute, count in self._minutes if now - minute < MINUTES)

    def summary(self) -> Mapping[str, Any]:
        """The figures, as an operator reads them."""
        events = self.events
        return {
            "since_seconds": round(self._clock() - self._began, 3),
            "unique_clients": self.unique_clients,
            "unique_clients_is_a_lower_bound": self.unique_clients >= MAX_CLIENTS,
            "requests_processed": events["request.processed"],
            "requests_failed": events["request.failed"],
            "requests_cancelled": events["request.cancelled"],
            "requests_blocked": self.blocked.total(),
            "blocked_by_reason": dict(self.blocked),
            "blocked_last_hour": self.blocked_last_hour,
            "content_flagged": self._content("flagged"),
            "content_redacted": self._content("redacted"),
            "admin_actions": events["admin.action"],
            "configuration": dict(self.configuration),
        }

    def _content(self, wanted: str) -> dict[str, int]:
        return {category: count for (action, category), count in self.content.items() if action == wanted}

    def _minute(self) -> int:
        return int((self._clock() - self._began) // MINUTE_SECONDS)
