"""How many answers of one client may be under way at one time."""

from __future__ import annotations

import threading
from collections import Counter

from tercet.errors import RateLimitError

__all__ = ["ParallelLimits"]

RETRY_SECONDS = 1


class ParallelLimits:
    """Counts what is under way, by client. Safe in threads; a client with nothing under way takes no room."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, client: str, limit: int) -> None:
        """Begin something; `leave` ends it.

        Raises:
            RateLimitError: as much is under way as may be.
        """
        with self._lock:
            if self._running[client] >= limit:
                raise RateLimitError(
                    f"{limit} requests at one time are the limit of a client, and so many are under way; "
                    "wait for one of them",
                    RETRY_SECONDS,
                )
            self._running[client] += 1

    def leave(self, client: str) -> None:
        """End something that `enter` has begun."""
        with self._lock:
            self._running[client] -= 1
            if self._running[client] <= 0:
                del self._running[client]

    def running(self, client: str) -> int:
        """Return how much is under way."""
        return self._running.get(client, 0)

    def __len__(self) -> int:
        return len(self._running)
