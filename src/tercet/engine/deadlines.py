"""Which requests have run out of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tercet.engine.request import Request

__all__ = ["Deadlines", "missed_deadline"]


def missed_deadline(request: Request, now: float) -> str | None:
    """Say which deadline of a request has passed, None where none has."""
    if request.deadline is not None and now >= request.deadline:
        return "the request had not been answered to its end"
    first = request.first_token_deadline
    if first is not None and request.first_token_at is None and now >= first:
        return "the first token of the request had not come"
    return None


class Deadlines:
    """The requests with a deadline, the earliest first; those that have ended are dropped now and then."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Request]] = []
        self._num_kept = 64

    def add(self, request: Request) -> None:
        """Watch a request."""
        for deadline in (request.deadline, request.first_token_deadline):
            if deadline is not None:
                heapq.heappush(self._entries, (deadline, request.number, request))
        if len(self._entries) > 2 * self._num_kept:
            self._entries = [entry for entry in self._entries if not entry[2].finished]
            heapq.heapify(self._entries)
            self._num_kept = max(64, len(self._entries))

    def passed(self, now: float) -> Iterator[tuple[Request, str]]:
        """Requests whose time is up, each with what it missed; every deadline is told once."""
        while self._entries and self._entries[0][0] <= now:
            _, _, request = heapq.heappop(self._entries)
            if not request.finished and (missed := missed_deadline(request, now)) is not None:
                yield request, missed
