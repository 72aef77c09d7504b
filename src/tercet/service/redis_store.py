"""Responses remembered in Redis: for several servers that answer the same questions.

Redis may be slow or gone at any time. An operation that takes longer than a quarter of a second counts as
failed, and after a failure Redis is left alone for some seconds, so that its absence costs a request nothing:
the model answers instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tercet.environment import optional_import
from tercet.errors import ParameterError, UnavailableError

__all__ = ["RedisStore"]

OPERATION_SECONDS = 0.25
PAUSE_SECONDS = 5.0
PREFIX = "tercet:response:"
INDEX = "tercet:responses"
"""A sorted set of the keys by the time when they expire, which counts them and finds the oldest."""


class RedisStore:
    """In the database that a URL names (redis://host:port/number, rediss://, unix://).

    Raises:
        MissingExtraError: the Python package is not installed.
        ParameterError: the URL is not one of Redis.
    """

    def __init__(
        self, url: str, max_entries: int, ttl_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        redis: Any = optional_import("redis.asyncio", "redis")
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=OPERATION_SECONDS, socket_connect_timeout=OPERATION_SECONDS, retry=None
            )
        except ValueError as error:
            raise ParameterError(f"{url!r} does not name a database of Redis: {error}") from error
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._paused_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """What is stored under a key and has not expired."""
        value = await self._run(lambda redis: redis.get(PREFIX + key))
        return None if value is None else bytes(value)

    async def put(self, key: str, value: bytes) -> None:
        """Store, and forget what expires first where there are too many."""
        now = self._clock()
        milliseconds = max(int(1000 * self._ttl_seconds), 1)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(PREFIX + key, value, px=milliseconds)
            pipe.zadd(INDEX, {key: now + self._ttl_seconds})
            pipe.zremrangebyscore(INDEX, "-inf", now)
            pipe.pexpire(INDEX, milliseconds)
            pipe.zcard(INDEX)
            counted = (await self._run(lambda _: pipe.execute()))[-1]
        if counted > self._max_entries:
            surplus = counted - self._max_entries
            dropped = await self._run(lambda redis: redis.zpopmin(INDEX, surplus))
            names = [PREFIX + name.decode() for name, _ in dropped]
            await self._run(lambda redis: redis.delete(*names))

    async def count(self) -> int:
        """How many entries there are, of all servers that share the database."""
        now = self._clock()
        return int(await self._run(lambda redis: redis.zcount(INDEX, now, "+inf")))

    async def clear(self) -> None:
        """Forget everything, for all servers that share the database."""
        names = await self._run(lambda redis: redis.zrange(INDEX, 0, -1))
        keys = [PREFIX + name.decode() for name in names]
        await self._run(lambda redis: redis.delete(INDEX, *keys))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _run(self, work: Callable[[Any], Any]) -> Any:
        if time.monotonic() < self._paused_until:
            raise UnavailableError("Redis has failed a moment ago and is left alone")
        try:
            return await work(self._redis)
        except Exception:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise
