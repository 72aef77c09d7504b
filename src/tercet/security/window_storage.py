"""A moving window in memory: what each client did in the last minute, by a clock that never jumps.

A storage of the library `limits`, whose own one counts by the time of day (an hour set back would keep
everybody out for an hour) and keeps an entry for every token. This one keeps an entry for every hit, with
its cost, and forgets a client a window after its last one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from limits.storage import MovingWindowSupport, Storage

__all__ = ["WindowStorage"]


class _Hits:
    """The hits of one key that still count."""

    def __init__(self) -> None:
        self.entries: deque[tuple[float, int]] = deque()
        self.total = 0

    def forget_before(self, moment: float) -> None:
        while self.entries and self.entries[0][0] <= moment:
            self.total -= self.entries.popleft()[1]


class WindowStorage(Storage, MovingWindowSupport):
    """See the module. `clock` gives seconds, and never goes back. Safe in threads."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._hits: OrderedDict[str, _Hits] = OrderedDict()  # the one used last at the end
        self._longest = 1
        self._lock = threading.Lock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Note a hit of this cost, unless it would be more than `limit` in the last `expiry` seconds."""
        with self._lock:
            now, hits = self._clock(), self._current(key, expiry)
            if hits.total + amount > limit:
                return False
            hits.entries.append((now, amount))
            hits.total += amount
            self._hits[key] = hits
            self._hits.move_to_end(key)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest hit was that counts, and what all that count cost."""
        with self._lock:
            hits = self._current(key, expiry)
            return (hits.entries[0][0] if hits.entries else self._clock()), hits.total

    def seconds_until(self, key: str, limit: int, expiry: int, amount: int) -> float:
        """Return how long it takes until a hit of this cost is possible, if there is none before."""
        with self._lock:
            hits = self._current(key, expiry)
            surplus = hits.total + amount - limit
            for moment, cost in hits.entries:
                if surplus <= 0:
                    return 0.0
                surplus -= cost
                freed = moment + expiry - self._clock()
                if surplus <= 0:
                    return max(freed, 0.0)
            return 0.0

    def _current(self, key: str, expiry: int) -> _Hits:
        """The hits of a key that count; whoever has been away for a window is forgotten."""
        now = self._clock()
        self._longest = max(self._longest, expiry)
        while self._hits:
            hits = next(iter(self._hits.values()))
            if hits.entries and hits.entries[-1][0] > now - self._longest:
                break
            self._hits.popitem(last=False)
        hits = self._hits.get(key) or _Hits()
        hits.forget_before(now - expiry)
        return hits

    @property
    def base_exceptions(self) -> type[Exception]:
        """What can go wrong in it."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Note a hit without a limit; returns what all that count cost."""
        self.acquire_entry(key, 2**63, expiry, amount)
        return self.get(key)

    def get(self, key: str) -> int:
        """Return what the hits of a key cost that count."""
        return self.get_moving_window(key, 0, self._longest)[1]

    def get_expiry(self, key: str) -> float:
        """Return when the oldest hit ceases to count."""
        return self.get_moving_window(key, 0, self._longest)[0] + self._longest

    def check(self) -> bool:
        """Whether it works: always."""
        return True

    def reset(self) -> int:
        """Forget everything; returns how many keys there were."""
        with self._lock:
            number = len(self._hits)
            self._hits.clear()
        return number

    def clear(self, key: str) -> None:
        """Forget one key."""
        with self._lock:
            self._hits.pop(key, None)

    def __len__(self) -> int:
        return len(self._hits)
