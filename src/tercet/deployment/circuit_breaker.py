"""A breaker between a caller and what fails: after some failures in a row it is left alone for a while.

    closed      calls go through; so many failures in a row open it
    open        no call goes through, until its time is over
    half open   one call goes through: success closes the breaker, failure opens it again

What hangs costs each caller its whole patience; a breaker that is open costs nothing. It has no thread and
no timer: time passes when somebody asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from tercet.errors import ParameterError

__all__ = ["BreakerState", "CircuitBreaker"]

BreakerState = Literal["closed", "open", "half open"]

MOST_SECONDS = 3600.0


class CircuitBreaker:
    """Counts failures in a row, from any thread.

    Args:
        failures: in a row, which open it.
        open_seconds: how long it stays open, unless a failure says how long.
        clock: seconds that never go back.

    Raises:
        ParameterError: a number is not positive.
    """

    def __init__(
        self,
        failures: int = 3,
        open_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or not open_seconds > 0:
            raise ParameterError(
                f"a breaker opens after at least 1 failure and for more than 0 seconds, not after {failures} "
                f"and for {open_seconds}"
            )
        self._most = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None
        self._trying_until: float | None = None

    @property
    def state(self) -> BreakerState:
        """Closed, open or half open."""
        with self._lock:
            if self._open_until is None:
                return "closed"
            return "open" if self._clock() < self._open_until else "half open"

    @property
    def seconds_left(self) -> float:
        """How long it stays open; 0 where a call may be tried."""
        with self._lock:
            return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def allows(self) -> bool:
        """Whether a call may go through now. While it is half open, the first who asks is that call.

        Whoever is allowed says `succeeded`, `failed` or `abandoned` afterwards; who says nothing for as long
        as it stays open is forgotten, and another may try.
        """
        with self._lock:
            if self._open_until is None:
                return True
            now = self._clock()
            if now < self._open_until or (self._trying_until is not None and now < self._trying_until):
                return False
            self._trying_until = now + self._open_seconds
            return True

    def succeeded(self) -> None:
        """A call went well: it is closed."""
        with self._lock:
            self._failures = 0
            self._open_until = self._trying_until = None

    def failed(self, seconds: float | None = None, *, at_once: bool = False) -> None:
        """A call failed.

        Args:
            seconds: how long to leave it alone, where it said so (`Retry-After`); an hour at most.
            at_once: open without waiting for more failures.
        """
        with self._lock:
            self._failures += 1
            half_open, self._trying_until = self._open_until is not None, None
            if half_open or at_once or self._failures >= self._most:
                told = self._open_seconds if seconds is None else min(seconds, MOST_SECONDS)
                self._open_until = self._clock() + told

    def abandoned(self) -> None:
        """A call ended and told nothing about the other side: it was the caller's mistake."""
        with self._lock:
            self._trying_until = None
