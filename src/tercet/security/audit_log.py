"""The audit log: what happened, one JSON object a line, each bound to the one before it.

    audit-000001.jsonl    {"at":"2026-11-23T08:00:00.000000+00:00","before":...,"kind":...,"hash":...}

A line that is changed, left out, put in or moved breaks the chain (`audit_chain`) at its place. Without a
key whoever may write the files may also write a whole new chain; with one, only its holder. The end alone can
be cut off without a trace in the file itself: keep the `head` (number and hash of the last line) elsewhere,
the server tells it.

A file is followed by the next when it is full, and the chain goes on in there. The oldest are removed when
there are too many, and a line `audit.removed` says so with the hash that the removed file ended with, so
that removal by anybody else shows.

Lines are ASCII: whatever a field holds, it is one line. A line is written whole or taken back; half a line
that a dying process left behind is cut off by the next one, which says so (`audit.recovered`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from tercet.errors import ChecksumError, ParameterError, StorageError
from tercet.security.audit_chain import CLOSED, FIRST, REMOVED, Head, audit_files, end_before, read_file, seal
from tercet.security.events import FieldValue, SecurityEvent

__all__ = ["AuditLog"]

FILE_BYTES = 10 * 2**20
FILE_COUNT = 20
SMALLEST_FILE = 1_024


class AuditLog:
    """Appends to the log in a folder; one process at a time. Not for several threads at once.

        log = AuditLog(folder, time.time)
        events.subscribe(log.record)

    Args:
        folder: is made if it is not there, readable by its owner alone.
        clock: seconds since 1970.
        key: makes the chain one that only its holder can continue or rewrite.
        file_bytes: when the next file is begun.
        file_count: how many are kept.

    Attributes:
        head: the last line.

    Raises:
        ParameterError: a bound is too small.
        StorageError: the folder cannot be used, or another process writes to it.
        ChecksumError: the newest file was changed; move the folder away and look into it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        clock: Callable[[], float],
        *,
        key: bytes | None = None,
        file_bytes: int = FILE_BYTES,
        file_count: int = FILE_COUNT,
    ) -> None:
        if file_bytes < SMALLEST_FILE or file_count < 2:
            raise ParameterError(
                f"an audit log has files of at least {SMALLEST_FILE} bytes, and at least 2 of them"
            )
        self.folder = Path(folder)
        self._clock = clock
        self._key = key
        self._file_bytes = file_bytes
        self._file_count = file_count
        self._descriptor = -1
        self._lock = -1
        self._num_lost = 0
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self.folder / "audit.lock")
            self.head = self._resume()
            self.append("audit.opened", keyed=key is not None)
        except OSError as error:
            self._let_go()
            raise _storage_error(self.folder, error) from error
        except BaseException:
            self._let_go()
            raise

    @property
    def is_keyed(self) -> bool:
        """Whether only the holder of a key can continue the chain."""
        return self._key is not None

    def record(self, event: SecurityEvent) -> None:
        """Append an event; raises what `append` does."""
        self.append(event.kind, event.caller, event.at, **event.fields)

    def append(self, kind: str, caller: str = "", at: float | None = None, **fields: FieldValue) -> None:
        """Append a line. Lines that could not be written are counted in the next that can.

        Raises:
            StorageError: it cannot be written; the file is as it was.
        """
        if self._lock < 0:
            raise StorageError(f"the audit log in {self.folder} is closed")
        if self._num_lost:
            fields = {**fields, "lost_before": self._num_lost}
        try:
            if self._size >= self._file_bytes:
                self._next_file()
            self._write(kind, caller, self._clock() if at is None else at, fields)
        except OSError as error:
            self._num_lost += 1
            raise _storage_error(self.folder, error) from error
        self._num_lost = 0

    def sync(self) -> None:
        """Have everything on the disk, whatever happens to the machine."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Write the last line and let the folder go."""
        if self._lock < 0:
            return
        try:
            self.append(CLOSED)
            self.sync()
        finally:
            self._let_go()

    def _write(self, kind: str, caller: str, at: float, fields: dict[str, FieldValue]) -> None:
        content = {
            "at": datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds"),
            "caller": caller,
            "fields": fields,
            "kind": kind,
        }
        line, head = seal(content, self.head, self._key)
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        self.head = head

    def _resume(self) -> Head:
        """Find the end of what is there, and cut off half a line."""
        files = audit_files(self.folder)
        if not files:
            self._open(1)
            return FIRST
        number, path = files[-1]
        found = read_file(path, self._key)
        head = found.head
        if head is None and len(files) > 1:  # a process died after it had begun the file
            head = read_file(files[-2][1], self._key).head
        if len(files) == 1 and found.before not in (None, FIRST):
            raise ChecksumError(
                f"{path}: lines before its first one are missing; `tercet audit verify` says more"
            )
        self.head = head or FIRST
        self._open(number)
        if found.torn:
            os.ftruncate(self._descriptor, found.num_bytes)
            self._size = found.num_bytes
            digest = hashlib.sha256(found.torn).hexdigest()
            self._write("audit.recovered", "", self._clock(), {"bytes": len(found.torn), "sha256": digest})
        return self.head

    def _next_file(self) -> None:
        """Begin a new file, and remove the oldest where there are too many: the line comes first."""
        full = self._descriptor
        self._open(self._number + 1)
        # Behind the back of whoever appends: a disk may take its time.
        threading.Thread(target=_sync_and_close, args=(full,), name="tercet-audit").start()
        files = audit_files(self.folder)
        for (number, path), (_, following) in pairwise(files[: 1 - self._file_count]):
            ended = end_before(following)
            self._write(REMOVED, "", self._clock(), {"file": number, "seq": ended.seq, "hash": ended.hash})
            path.unlink()

    def _open(self, number: int) -> None:
        path = self.folder / f"audit-{number:06d}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._number = number
        self._size = os.fstat(self._descriptor).st_size

    def _let_go(self) -> None:
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Hold the lock of a folder until the process ends; raises BlockingIOError where somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        import fcntl
    except ImportError:  # Windows: whoever starts two servers over one folder finds the chain broken
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _storage_error(folder: Path, error: OSError) -> StorageError:
    if isinstance(error, BlockingIOError):
        return StorageError(f"another process writes to the audit log in {folder}; give each its own folder")
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"cannot write the audit log in {folder}: {reason}")
