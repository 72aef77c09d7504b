"""The history as a file of SQLite: windows and alerts, in as much room as they may have.

    spans    id, level (0, 60 or 3600), time (end of the last window), seconds, data (JSON of a `Span`)
    alerts   id, time, data (JSON of an event)

Each commit survives the end of the process, whatever ends it (WAL, sqlite.org/wal.html), and others may read
meanwhile. Old windows become minutes, old minutes hours. What is old is told by how much was recorded since,
never by the clock: one that is set wrong for an hour would otherwise cost the history of a month.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tercet.monitoring.spans import Span, merged

__all__ = ["LEVELS", "HistoryFile"]

LEVELS = (0, 60, 3600)
"""Windows as they were, minutes, hours."""
MINUTES_SECONDS = 3 * 86_400.0
"""How much recorded time stays as minutes before it becomes hours."""
MOST_ALERTS = 10_000
BUSY_SECONDS = 1.0
VERSION = 1
_APPLICATION = 0x7E2CE7  # so that `file` and others tell it from another program's
_TABLES = """
CREATE TABLE spans (id INTEGER PRIMARY KEY, level INTEGER NOT NULL, time REAL NOT NULL, seconds REAL NOT NULL,
    data TEXT NOT NULL);
CREATE INDEX spans_of_level ON spans (level, id);
CREATE TABLE alerts (id INTEGER PRIMARY KEY, time REAL NOT NULL, data TEXT NOT NULL);
"""


class HistoryFile:
    """An open file; every method may raise sqlite3.Error. One thread at a time.

    Args:
        path: the file, or ":memory:".
        read_only: never change it; it has to be there.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        if read_only:
            address = f"{Path(path).absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(address, BUSY_SECONDS, uri=True, check_same_thread=False)
        else:
            self._db = sqlite3.connect(path, BUSY_SECONDS, check_same_thread=False)
        self._db.isolation_level = None  # transactions begin where this module says so
        try:
            if not read_only:
                self._prepare()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise sqlite3.DatabaseError(f"it is of version {version}, and this program knows {VERSION}")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, spans: Sequence[Span], alerts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store windows and events, all or nothing."""
        with self._transaction():
            self._insert(0, spans)
            self._db.executemany(
                "INSERT INTO alerts (time, data) VALUES (?, ?)",
                [(one["time"], json.dumps(one)) for one in alerts],
            )

    def spans(self, since: float) -> list[Span]:
        """Those that ended after a time, in the order in which they were recorded."""
        rows = self._db.execute(
            "SELECT data FROM spans WHERE time > ? ORDER BY level DESC, id", (since,)
        ).fetchall()
        return [Span.from_dict(json.loads(data)) for (data,) in rows]

    def alerts(self, since: float) -> list[dict[str, Any]]:
        """Events after a time."""
        rows = self._db.execute("SELECT data FROM alerts WHERE time > ? ORDER BY id", (since,)).fetchall()
        return [json.loads(data) for (data,) in rows]

    def roll_up(self, window_seconds: float, total_seconds: float, max_bytes: int) -> None:
        """Make minutes and hours of what is old, and forget what is older than everything that is kept.

        `window_seconds` of recorded time stay as they are, `total_seconds` stay at all. A file that is too
        large nevertheless keeps less and less as it was, and then less and less at all.
        """
        kept = [window_seconds, window_seconds + MINUTES_SECONDS, total_seconds]
        self._roll_up(kept)
        for _ in range(20):
            if self._size() <= max_bytes:
                return
            kept = [kept[0] / 2, kept[0] / 2 + (kept[1] - kept[0]) / 2, kept[2] / (1 if kept[0] > 600 else 2)]
            self._roll_up(kept)

    def _roll_up(self, kept: list[float]) -> None:
        with self._transaction():
            for level, target, seconds in ((0, 60, kept[0]), (60, 3600, kept[1])):
                old = self._older_than(level, seconds)
                rows = self._db.execute(
                    "SELECT data FROM spans WHERE level = ? AND id <= ? ORDER BY id", (level, old)
                ).fetchall()
                self._join(target, [Span.from_dict(json.loads(data)) for (data,) in rows])
                self._db.execute("DELETE FROM spans WHERE level = ? AND id <= ?", (level, old))
            self._db.execute(
                "DELETE FROM spans WHERE level = 3600 AND id <= ?", (self._older_than(3600, kept[2]),)
            )
            self._db.execute(
                "DELETE FROM alerts WHERE id <= (SELECT max(id) FROM alerts) - ?", (MOST_ALERTS,)
            )
        self._db.executescript("PRAGMA incremental_vacuum")  # `execute` would give back a single page

    def _older_than(self, level: int, seconds: float) -> int:
        """The last row of a level after which so much time has been recorded; 0 if there is none."""
        (found,) = self._db.execute(
            """SELECT coalesce(max(id), 0) FROM (
                SELECT id, sum(seconds) OVER (ORDER BY level, id DESC) - seconds AS since FROM spans
                WHERE level <= :level) WHERE since >= :seconds
                AND id IN (SELECT id FROM spans WHERE level = :level)""",
            {"level": level, "seconds": seconds},
        ).fetchone()
        return int(found)

    def _join(self, level: int, spans: list[Span]) -> None:
        """Add spans to a coarser level, those of one minute or hour as one."""
        for number, parts in groupby(spans, key=lambda one: _bucket(one.snapshot.time, level)):
            whole = merged(parts)
            last = self._db.execute(
                "SELECT id, time, data FROM spans WHERE level = ? ORDER BY id DESC LIMIT 1", (level,)
            ).fetchone()
            if last is not None and _bucket(last[1], level) == number:
                whole = merged([Span.from_dict(json.loads(last[2])), whole])
                self._db.execute("DELETE FROM spans WHERE id = ?", (last[0],))
            self._insert(level, [whole])

    def _insert(self, level: int, spans: Sequence[Span]) -> None:
        self._db.executemany(
            "INSERT INTO spans (level, time, seconds, data) VALUES (?, ?, ?, ?)",
            [
                (level, one.snapshot.time, one.snapshot.period_seconds, json.dumps(one.to_dict()))
                for one in spans
            ],
        )

    def _size(self) -> int:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    def _prepare(self) -> None:
        """Make the tables of a new file, and look through one that is there."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in _TABLES.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"malformed: {verdict}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


def _bucket(time: float, seconds: int) -> int:
    """The minute or hour that a window belongs to which ended then."""
    return int(-(-time // seconds))
