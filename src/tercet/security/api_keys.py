"""API keys: made, listed, revoked and recognized. The file holds SHA-256 digests, never a key.

A key is `tct_` + twelve digits that name it + `_` + forty-eight that are secret (192 random bits, all
hexadecimal). It is shown once, when it is made. Bits at random cannot be guessed, so one round of SHA-256 is
enough, unlike for passwords; the name finds the one digest to compare with, and comparing takes the same time
wherever they differ.

The file is JSON lines, only ever appended to: what was created, what was revoked, and when.

    {"event": "created", "id": "5f0c…", "name": "alice", "role": "user", "sha256": "…", "created_at": 17639…}
    {"event": "revoked", "id": "5f0c…", "at": 1763990000}

A server looks at the file's time with every request and reads it again when it has changed, so a revoked key
is refused from then on. A file that cannot be read any more lets nobody in.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from tercet.errors import ParameterError, StorageError
from tercet.security.identity import Caller, Role
from tercet.security.key_record import KeyRecord, read_records, whole_bytes

__all__ = ["DEFAULT_NAME", "Finding", "KeyStore", "looks_like_key"]

DEFAULT_NAME = "keys.jsonl"
"""In the folder of settings, where nobody names a file."""

KEY = re.compile(r"tct_([0-9a-f]{12})_[0-9a-f]{48}")
NOBODY = "0" * 64
"""A digest that no key has, to compare with where there is none."""

Reason = Literal["bad_key", "revoked_key", "expired_key"]


class Finding(NamedTuple):
    """Whose key it is, or why it is nobody's."""

    caller: Caller | None
    reason: Reason | None = None


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of our keys, as what has to be kept out of logs."""
    return KEY.fullmatch(text) is not None


class KeyStore:
    """The keys of one file. Several processes may use it, threads too.

    Args:
        path: the file; it is made with the first key.
        clock: seconds since 1970.

    Attributes:
        generation: how often the file has been read.

    Raises:
        StorageError: the file cannot be read, or others than its owner may change it.
        FormatError: it is not a file of keys.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float]) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._records: dict[str, KeyRecord] = {}
        self.generation = 0
        self.refresh()

    @property
    def exists(self) -> bool:
        """Whether there is a file, even one whose keys have all been revoked."""
        return self._seen is not None

    def create(
        self,
        name: str,
        *,
        role: Role = "user",
        models: Iterable[str] | None = None,
        seconds: float | None = None,
        policy: str | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_parallel_requests: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """Make a key; returns it, which nobody can do again, and what is kept of it.

        Args:
            name: for people; need not be unique.
            role: what it may do.
            models: what it may ask for; None: every model.
            seconds: how long it is good; None: until it is revoked.
            policy, requests_per_minute, tokens_per_minute, max_parallel_requests: see `Caller`.

        Raises:
            ParameterError: a value cannot be.
            StorageError: the file cannot be written.
        """
        if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
            raise ParameterError(f"a key is good for a time above 0 seconds, not {seconds!r}")
        now = self._clock()
        key_id = secrets.token_hex(6)
        key = f"tct_{key_id}_{secrets.token_hex(24)}"
        record = KeyRecord(
            id=key_id,
            name=name,
            sha256=_digest(key),
            role=role,
            models=None if models is None else frozenset(models),
            created_at=int(now),
            expires_at=None if seconds is None else int(now + seconds),
            policy=policy,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_parallel_requests=max_parallel_requests,
        )
        self._append({"event": "created", **record.to_dict()})
        return key, record

    def revoke(self, key: str) -> KeyRecord:
        """Have a key refused from now on; `key` is its id, or its name where only one good key has it.

        Raises:
            ParameterError: there is no such key, several have the name, or it has been revoked already.
            StorageError: the file cannot be written.
        """
        found = [record for record in self.records() if key in (record.id, record.name)]
        good = [record for record in found if record.revoked_at is None]
        if not good:
            what = "was revoked already" if found else "does not exist; `tercet keys list` shows them all"
            raise ParameterError(f"the key {key!r} {what}")
        if len(good) > 1:
            ids = ", ".join(record.id for record in good)
            raise ParameterError(f"the name {key!r} is that of several keys, {ids}; give the id of one")
        self._append({"event": "revoked", "id": good[0].id, "at": int(self._clock())})
        return self._records[good[0].id]

    def records(self) -> list[KeyRecord]:
        """All keys there ever were, the oldest first; raises what the class does."""
        self.refresh()
        return list(self._records.values())

    def find(self, key: str) -> Finding:
        """Whose key this is; raises what the class does, where nobody can be let in."""
        self.refresh()
        form = KEY.fullmatch(key)
        record = None if form is None else self._records.get(form[1])
        # Compared in any case, so that a name that exists takes no longer than one that does not.
        same = hmac.compare_digest(_digest(key), NOBODY if record is None else record.sha256)
        if record is None or not same:
            return Finding(None, "bad_key")
        if record.revoked_at is not None:
            return Finding(None, "revoked_key")
        if record.expires_at is not None and self._clock() >= record.expires_at:
            return Finding(None, "expired_key")
        return Finding(record.caller)

    def refresh(self) -> None:
        """Read the file again if it has changed; raises what the class does."""
        with self._lock:
            try:
                now = _state(self.path.stat())
            except FileNotFoundError:
                if self._seen is not None:
                    raise StorageError(
                        f"the keys at {self.path} are gone; put the file back, or stop"
                    ) from None
                return
            except OSError as error:
                raise StorageError(f"cannot read the keys at {self.path}: {error.strerror}") from error
            if now == self._seen:
                return
            try:
                with self.path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    data = file.read()
            except OSError as error:
                raise StorageError(f"cannot read the keys at {self.path}: {error.strerror}") from error
            _check_owner_only(self.path, status)
            self._records = read_records(data, str(self.path))
            self.generation += 1
            self._seen = _state(status)

    def _append(self, event: dict[str, object]) -> None:
        line = json.dumps(event, ensure_ascii=True).encode() + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self.path, flags, 0o600)
            try:
                _lock(descriptor)
                _check_owner_only(self.path, os.fstat(descriptor))
                found = os.read(descriptor, os.fstat(descriptor).st_size)
                whole = whole_bytes(found)
                if whole < len(found):  # a line that a crash cut off: nobody was told that it is done
                    os.ftruncate(descriptor, whole)
                elif found and not found.endswith(b"\n"):
                    line = b"\n" + line
                read_records(found, str(self.path))  # nothing is added to what is damaged
                if os.write(descriptor, line) < len(line):
                    os.ftruncate(descriptor, whole)
                    raise StorageError(
                        f"cannot write {self.path}: no space is left. Free some and try again."
                    )
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}. Choose another file.") from error
        self.refresh()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def _check_owner_only(path: Path, status: os.stat_result) -> None:
    """Whoever can change the file can let himself in."""
    if os.name != "posix":
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(f"others than its owner may change the keys at {path}; run: chmod 600 {path}")
    if status.st_uid not in (0, os.geteuid()):
        raise StorageError(f"the keys at {path} belong to another user; take a file of your own")


def _lock(descriptor: int) -> None:
    """Keep other processes from appending at the same time; until the file is closed."""
    with contextlib.suppress(ImportError):  # Windows, where one write at a time is all there is
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
