"""How many requests and tokens a client may use in any minute.

    limits = RateLimits(config.rate_limit_storage, config.rate_limit_fail_mode)
    window = limits.take("requests", "key-1", 1, 60)      # RateLimitError beyond 60
    window.remaining, window.reset_seconds

Requests are counted in a moving window: any 60 seconds, not those of a clock's minute. So are tokens in
memory; in Redis they are counted in two buckets, the older one weighted, since a window would keep an
entry for each token. Tokens are paid for when a request is admitted: those of the prompt, and all that
the answer may have. So a limit is never exceeded, not even by answers that are still being written.

Redis may be slow or gone. An operation that takes more than a quarter of a second has failed, and Redis
is left alone for some seconds then. Until it is back, requests are refused (fail mode "closed"), or
counted in this process ("open").
"""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from limits import RateLimitItemPerMinute
from limits.storage import Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from tercet.errors import (
    InvalidInputError,
    MissingExtraError,
    ParameterError,
    RateLimitError,
    UnavailableError,
)
from tercet.security.config import FailMode
from tercet.security.window_storage import WindowStorage

__all__ = ["Counted", "RateLimits", "Window"]

Counted = Literal["requests", "tokens"]
OPERATION_SECONDS = 0.25
PAUSE_SECONDS = 5.0
WINDOW_SECONDS = 60
LOG = logging.getLogger("tercet.security")


@dataclass(frozen=True)
class Window:
    """What a client has left."""

    limit: int
    remaining: int
    reset_seconds: float
    """Until the oldest of what counts now counts no more."""


class RateLimits:
    """See the module. Safe in threads; where `blocks` is true, not for an event loop's own thread.

    Raises:
        ParameterError: the storage cannot be used.
        MissingExtraError: the storage needs a Python package that is not installed.
    """

    def __init__(
        self,
        storage: str = "memory",
        fail_mode: FailMode = "closed",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.fail_mode = fail_mode
        self._clock, self._wall_clock = clock, wall_clock
        # A Redis that others read holds no address and no client's name. Servers that share it know its own.
        self._secret = secrets.token_bytes(32) if storage == "memory" else storage.encode()
        self._own = WindowStorage(clock)
        self._ours = MovingWindowRateLimiter(self._own)
        self._shared: dict[Counted, RateLimiter] | None = None
        if storage != "memory":
            opened = _open(storage)
            self._shared = {
                "requests": MovingWindowRateLimiter(opened),
                "tokens": SlidingWindowCounterRateLimiter(opened),
            }
        self._paused_until = -math.inf
        self._lock = threading.Lock()

    @property
    def blocks(self) -> bool:
        """Whether a call may wait for a network."""
        return self._shared is not None

    @property
    def works(self) -> bool:
        """Whether counting works as it is set up: false for some seconds after Redis has failed."""
        return self._shared is None or self._clock() >= self._paused_until

    def take(self, counted: Counted, client: str, amount: int, limit: int) -> Window:
        """Use some of what a client has; returns what is left.

        Raises:
            RateLimitError: it has not so much left.
            InvalidInputError: it never has so much.
            UnavailableError: the storage does not answer, and the fail mode is "closed".
        """
        if amount > limit:
            raise InvalidInputError(
                f"the request may use {amount} {counted}, and a client has {limit} in a minute; "
                "shorten the prompt or lower max_tokens"
            )
        client = hmac.new(self._secret, client.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]
        item = RateLimitItemPerMinute(limit, namespace=f"tercet:{counted}")
        if self._shared is not None:
            try:
                return self._take_shared(self._shared[counted], item, counted, client, amount)
            except RateLimitError:
                raise
            except Exception as error:
                if not isinstance(error, UnavailableError):  # which says that it is left alone
                    self._leave_alone(error)
                if self.fail_mode == "closed":
                    raise UnavailableError("requests cannot be counted now; try again in a moment") from error
        taken = self._ours.hit(item, client, cost=amount)
        start, used = self._own.get_moving_window(item.key_for(client), limit, WINDOW_SECONDS)
        if not taken:
            wait = self._own.seconds_until(item.key_for(client), limit, WINDOW_SECONDS, amount)
            raise _refusal(counted, limit, wait)
        return Window(limit, limit - used, max(start + WINDOW_SECONDS - self._clock(), 0.0))

    def _leave_alone(self, error: Exception) -> None:
        with self._lock:
            self._paused_until = self._clock() + PAUSE_SECONDS
        LOG.warning("limits not shared", extra={"error": type(error).__name__, "fail_mode": self.fail_mode})

    def _take_shared(
        self, limiter: RateLimiter, item: RateLimitItemPerMinute, counted: Counted, client: str, amount: int
    ) -> Window:
        if self._clock() < self._paused_until:
            raise UnavailableError("Redis has failed a moment ago and is left alone")
        taken = limiter.hit(item, client, cost=amount)
        stats = limiter.get_window_stats(item, client)
        reset = min(max(stats.reset_time - self._wall_clock(), 0.0), WINDOW_SECONDS)
        if not taken:
            raise _refusal(counted, item.amount, reset)
        return Window(item.amount, max(stats.remaining, 0), reset)


def _refusal(counted: Counted, limit: int, seconds: float) -> RateLimitError:
    wait = max(1, min(math.ceil(seconds), WINDOW_SECONDS))
    return RateLimitError(
        f"{limit} {counted} in a minute are the limit, and they are used up; try again in {wait} seconds",
        wait,
    )


def _open(address: str) -> Storage:
    if address.startswith("unix://"):
        address = f"redis+{address}"
    options: dict[str, Any] = {
        "socket_timeout": OPERATION_SECONDS,
        "socket_connect_timeout": OPERATION_SECONDS,
        "retry": None,
    }
    try:
        return cast(Storage, storage_from_string(address, **options))
    except Exception as error:
        if isinstance(error, ImportError) or "prerequisite" in str(error):
            raise MissingExtraError(
                "limits in Redis need the Python package redis; install it with: pip install 'tercet[redis]'"
            ) from error
        name = address.rpartition("@")[2]  # without a password
        raise ParameterError(f"{name!r} does not name a database of Redis: {error}") from error
