"""Who called, in a form that can be counted and compared but not read: keyed hashes.

    ids = ClientIds(secret, clock=time.time, period_seconds=30 * 86_400)
    ids.hash("7f3a0c11d2e4")            # "c_5b0c..."; the same all through a period

A bare hash of an address or a key's name can be reversed by trying them all: there are only four billion
addresses. HMAC-SHA256 with a secret cannot be by anybody who lacks it. The key in use is made from the
secret and the number of the period, so hashes of different periods cannot be linked to each other, and a
secret that is thrown away makes the whole log anonymous.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from tercet.errors import ParameterError

__all__ = ["ClientIds"]

HASH_CHARACTERS = 24
"""96 bits: two of a billion clients meet with odds of one in 10^11."""
PERIOD_SECONDS = 30 * 86_400.0


class ClientIds:
    """Turns identities of clients into hashes.

    Args:
        secret: at least 16 bytes that nobody else knows.
        clock: seconds since 1970.
        period_seconds: how long a client keeps its hash; None is for ever.

    Raises:
        ParameterError: the secret is short, or the period not above 0.
    """

    def __init__(
        self, secret: bytes, clock: Callable[[], float], period_seconds: float | None = PERIOD_SECONDS
    ) -> None:
        if len(secret) < 16:
            raise ParameterError(f"the secret of client ids has at least 16 bytes, not {len(secret)}")
        if period_seconds is not None and not period_seconds > 0:
            raise ParameterError(f"period_seconds is above 0, not {period_seconds!r}")
        self._secret = secret
        self._clock = clock
        self._period_seconds = period_seconds
        self._period = -1
        self._key = b""

    def hash(self, client: str) -> str:
        """Return `c_` and 24 hexadecimal digits: the same for the same client throughout a period."""
        seconds = self._period_seconds
        period = 0 if seconds is None else int(self._clock() // seconds)
        if period != self._period:
            self._period = period
            self._key = hmac.digest(self._secret, f"tercet client ids {period}".encode(), "sha256")
        digest = hmac.new(self._key, client.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return "c_" + digest.hexdigest()[:HASH_CHARACTERS]
