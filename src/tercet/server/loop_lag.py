"""How late the event loop wakes: the measure of whether anything in it takes too long.

Whoever computes in the loop makes every stream wait. A timer is due every so often; by how much it comes late
is what each client of that moment waited in vain. A busy machine may be to blame for that, too:
`longest_own_seconds` is the most that the loop's own computing has made it late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["LoopLag"]

INTERVAL_SECONDS = 0.025


class LoopLag:
    """Tells `observe` the lateness in seconds, 40 times a second, until it is stopped."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self.longest_own_seconds = 0.0
        self._next()

    def stop(self) -> None:
        """Observe no more."""
        self._timer.cancel()

    def _next(self) -> None:
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._computed = time.thread_time()
        self._timer = self._loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        late = max(self._loop.time() - self._due, 0.0)
        self._observe(late)
        own = min(late, time.thread_time() - self._computed)
        self.longest_own_seconds = max(self.longest_own_seconds, own)
        self._next()
