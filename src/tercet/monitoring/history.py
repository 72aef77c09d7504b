"""The history of a service: what each window was like, for a month, whatever happens to the file.

The service goes on in every case, with one warning in the log and nothing lost that was stored:

    the file is damaged          it is put aside under another name, and a new one begun
    another program has it       windows wait in memory until it is free
    the disk is full, or gone    the same
    it cannot be made at all     they stay in memory, the latest of them
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, StorageError
from tercet.monitoring.history_file import HistoryFile
from tercet.monitoring.snapshots import Snapshot
from tercet.monitoring.spans import Span

__all__ = ["History", "read_history"]

DAY_SECONDS = 86_400.0
MAX_BYTES = 64 * 1024 * 1024
MOST_WAITING = 5_000
"""Windows, and alerts, that are held in memory while the file cannot be written."""
ROLL_UP_EVERY = 60
"""Windows."""
_LOCKED = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED; the module names them since Python 3.11
_FULL = 13
_DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
_LOG = logging.getLogger("tercet.monitoring")


class History:
    """Windows and alerts of one service; any thread may use it.

    Args:
        path: the file; None keeps everything in memory.
        hours: recorded time that is kept window by window; older windows become minutes, then hours.
        days: recorded time that is kept at all.
        max_bytes: how large the file may become.
    """

    def __init__(
        self, path: Path | None = None, *, hours: float = 24, days: float = 30, max_bytes: int = MAX_BYTES
    ) -> None:
        self.path = path
        self._bounds = hours * 3600, days * DAY_SECONDS, max_bytes
        self._lock = threading.Lock()
        self._file: HistoryFile | None = None
        self._spans: deque[Span] = deque(maxlen=MOST_WAITING)
        self._alerts: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._until_roll_up = 0
        self._warned: str | None = None
        if path is None:
            self._file = HistoryFile(":memory:")

    def add(self, snapshot: Snapshot, alerts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store a window, and what alerts began or ended with it. Raises nothing that a file can cause."""
        with self._lock:
            self._spans.append(Span.of(snapshot))
            self._alerts.extend(dict(one) for one in alerts)
            self._store()

    def add_alert(self, event: Any) -> None:
        """Store an event that has `to_dict`, with a `time` in it."""
        with self._lock:
            self._alerts.append(event.to_dict())
            self._store()

    def spans(self, since: float = float("-inf")) -> list[Span]:
        """Windows, minutes and hours that ended after a time, the oldest first."""
        with self._lock:
            stored: list[Span] = []
            with contextlib.suppress(sqlite3.Error, OSError):  # the next `add` tells of it
                if file := self._readable():
                    stored = file.spans(since)
            return stored + [one for one in self._spans if one.snapshot.time > since]

    def alerts(self, since: float = float("-inf")) -> list[dict[str, Any]]:
        """Events after a time."""
        with self._lock:
            stored: list[dict[str, Any]] = []
            with contextlib.suppress(sqlite3.Error, OSError):
                if file := self._readable():
                    stored = file.alerts(since)
            return stored + [one for one in self._alerts if one["time"] > since]

    def close(self) -> None:
        """Store what waits, if that is possible, and let go of the file; asking later opens it again."""
        with self._lock:
            if self._spans or self._alerts:
                self._store()
            self._close_quietly()

    def _readable(self) -> HistoryFile | None:
        """The file, if there is one: of an earlier process, where nothing has been stored yet."""
        if self._file is None and self.path is not None and self.path.exists():
            self._file = self._open()
        return self._file

    def _store(self) -> None:
        """Write what waits; a file that is damaged is put aside, and the new one gets it."""
        for _ in range(2):
            try:
                if self._file is None:
                    self._file = self._open()
                self._file.add(list(self._spans), list(self._alerts))
            except sqlite3.Error as error:
                if _number(error) not in (*_LOCKED, _FULL):  # those pass, and meanwhile it can be read
                    self._close_quietly()
                if _number(error) not in _DAMAGED or not self._put_aside(error):
                    self._warn(error)
                    return
            except OSError as error:
                self._warn(error)
                return
            else:
                self._spans.clear()
                self._alerts.clear()
                break
        if self._warned is not None:
            _LOG.info("history is written again", extra={"file": str(self.path)})
            self._warned = None
        self._until_roll_up -= 1
        if self._until_roll_up < 0 and self._file is not None:
            try:
                self._file.roll_up(*self._bounds)
            except sqlite3.Error as error:
                self._warn(error)
            self._until_roll_up = ROLL_UP_EVERY

    def _open(self) -> HistoryFile:
        if self.path is None:
            return HistoryFile(":memory:")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return HistoryFile(self.path)

    def _close_quietly(self) -> None:
        if self.path is None:  # closing it would be losing it
            return
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(sqlite3.Error):
                file.close()

    def _put_aside(self, error: sqlite3.Error) -> bool:
        """Give the file, and what belongs to it, another name."""
        if self.path is None:
            return False
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = next(
            one
            for number in range(1000)
            if not (one := self.path.with_name(f"{self.path.name}.damaged-{stamp}-{number}")).exists()
        )
        try:
            self.path.rename(name)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(name.with_name(name.name + suffix))
        except OSError:
            return False
        _LOG.warning(
            "history file was damaged; a new one is begun",
            extra={"file": str(self.path), "put_aside_as": str(name), "words": str(error)},
        )
        return True

    def _warn(self, error: Exception) -> None:
        """Say once what keeps the history from being written, until it is written again."""
        kind = "in use by another program" if _number(error) in _LOCKED else str(error)
        if kind != self._warned:
            self._warned = kind
            _LOG.warning(
                "history cannot be written now; it is kept in memory and written later",
                extra={"file": str(self.path), "words": kind},
            )


def read_history(path: Path, since: float) -> tuple[list[Span], list[dict[str, Any]]]:
    """The windows and events of a file that a service may be writing; nothing in it is changed.

    Raises:
        StorageError: there is no such file, or it cannot be read now.
        FormatError: it is no history, or damaged.
    """
    if not path.is_file():
        raise StorageError(
            f"there is no history at {path}; `tercet serve` writes one, --history FILE says where, and "
            "`tercet monitor --help` how to name it"
        )
    file = None
    try:
        file = HistoryFile(path, read_only=True)
        return file.spans(since), file.alerts(since)
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"the history {path} cannot be read now: {error}; try again in a moment"
        ) from error
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not a history of tercet, or damaged: {error}") from error
    finally:
        if file is not None:
            file.close()


def _number(error: Exception) -> int:
    """SQLite's primary code of an error, -1 of another."""
    code = getattr(error, "sqlite_errorcode", None)  # since Python 3.11
    if code is not None:
        return int(code) & 0xFF
    words = str(error)
    if "malformed" in words or "not a database" in words:
        return _DAMAGED[0]
    return _LOCKED[0] if "locked" in words else -1
