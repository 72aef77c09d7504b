"""Where responses are remembered: in this process, or in a file of SQLite that outlives it.

A third one, for several processes on several machines, is Redis (`redis_store`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cachetools import TTLCache

from tercet.errors import ParameterError, StorageError
from tercet.service.response_cache import CacheStore

__all__ = ["MemoryStore", "SqliteStore", "open_store"]

T = TypeVar("T")
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON responses (used);
CREATE INDEX IF NOT EXISTS by_expiry ON responses (expires);
"""


def open_store(where: str, max_entries: int, ttl_seconds: float) -> CacheStore:
    """Open "memory", a URL of Redis or, for anything else, a file of SQLite. May block for a moment.

    Raises:
        StorageError, ParameterError, MissingExtraError: see the stores.
    """
    if where == "memory":
        return MemoryStore(max_entries, ttl_seconds)
    if where.startswith(("redis://", "rediss://", "unix://")):
        from tercet.service.redis_store import RedisStore

        return RedisStore(where, max_entries, ttl_seconds)
    return SqliteStore(where, max_entries, ttl_seconds)


class MemoryStore:
    """In this process. Bounded by entries and by bytes; what was used longest ago goes first.

    Args:
        max_entries: most entries.
        ttl_seconds: how long one is kept.
        max_bytes: most bytes of values.
        clock: seconds.
    """

    def __init__(
        self,
        max_entries: int,
        ttl_seconds: float,
        max_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._entries: TTLCache[str, bytes] = TTLCache(max_bytes, ttl_seconds, timer=clock, getsizeof=len)

    async def get(self, key: str) -> bytes | None:
        """What is stored under a key and has not expired."""
        return self._entries.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Store, and forget what was used longest ago where there are too many."""
        if len(value) > self._entries.maxsize:
            return
        self._entries[key] = value
        while len(self._entries) > self._max_entries:
            self._entries.popitem()

    async def count(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    async def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()


class SqliteStore:
    """In a file, with a thread of its own. Several processes of one machine may share it.

    Raises:
        StorageError: the file cannot be opened.
        ParameterError: it is another program's, or of a version that this one does not know.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_entries: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tercet-cache")
        try:
            self._database = self._thread.submit(self._open).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def get(self, key: str) -> bytes | None:
        """What is stored under a key and has not expired."""
        return await self._run(self._get, key)

    async def put(self, key: str, value: bytes) -> None:
        """Store, and forget what has expired or was used longest ago."""
        await self._run(self._put, key, value)

    async def count(self) -> int:
        """How many entries there are."""
        return await self._run(self._count)

    async def clear(self) -> None:
        """Forget everything."""
        await self._run(self._execute, "DELETE FROM responses")

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(self._path, timeout=1.0, isolation_level=None)
            found = database.execute("PRAGMA user_version").fetchone()[0]
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in names}
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot open the response cache {self._path}: {error}; name another file, or remove this one"
            ) from error
        if found not in (0, _SCHEMA_VERSION) or tables - {"responses"}:
            database.close()
            raise ParameterError(
                f"{self._path} is a database of another program or version (version {found}, tables "
                f"{', '.join(sorted(tables)) or 'none'}); name another file for the response cache"
            )
        with contextlib.suppress(sqlite3.OperationalError):  # some file systems cannot; it works without
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # after a loss of power some entries may be missing
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        return database

    def _execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(statement, values).fetchall()

    def _get(self, key: str) -> bytes | None:
        now = self._clock()
        rows = self._execute("SELECT value FROM responses WHERE key = ? AND expires > ?", key, now)
        if not rows:
            return None
        self._execute("UPDATE responses SET used = ? WHERE key = ?", now, key)
        return bytes(rows[0][0])

    def _put(self, key: str, value: bytes) -> None:
        now = self._clock()
        row = (key, value, now + self._ttl_seconds, now)
        self._execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)", *row)
        self._execute("DELETE FROM responses WHERE expires <= ?", now)
        surplus = self._count() - self._max_entries
        if surplus > 0:
            oldest = "SELECT key FROM responses ORDER BY used LIMIT ?"
            self._execute(f"DELETE FROM responses WHERE key IN ({oldest})", surplus)

    def _count(self) -> int:
        return int(self._execute("SELECT count(*) FROM responses")[0][0])
