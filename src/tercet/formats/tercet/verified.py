"""Which large files were found whole before, so that opening one again does not read all of it.

A file of a gigabyte takes about a second to check. It is checked when it is opened first, and a note of what
it was then is left in the cache folder, `verified/`: path, device, inode, length, and the times at which its
content and its entry were last changed. As long as all of these are the same, nobody has written to the file
since. What only reading can find, a disk that forgets, `tercet inspect` looks for whenever it is asked.

A note is lost without harm: the file is then checked again. None is left for a file that was changed within
the last seconds, since a clock is too coarse to tell a later change from that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

from tercet.environment import atomic_write, cache_directory
from tercet.errors import StorageError

__all__ = ["FileState", "remember_verified", "was_verified"]

SETTLED_NANOSECONDS = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class FileState:
    """What changes when somebody writes to a file, or puts another one in its place."""

    path: str
    device: int
    inode: int
    num_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> FileState:
        """Describe the file that was opened at a path."""
        return cls(
            os.path.realpath(path),
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    @property
    def has_settled(self) -> bool:
        """Whether the last change is long enough ago to be told from one that follows."""
        return time.time_ns() - max(self.modified_ns, self.changed_ns) > SETTLED_NANOSECONDS


def was_verified(state: FileState) -> bool:
    """Say whether a file was found whole when it was as it is now."""
    try:
        noted = json.loads(_note(state).read_bytes())
    except (OSError, ValueError, StorageError):
        return False
    return bool(noted == dataclasses.asdict(state))


def remember_verified(state: FileState) -> None:
    """Note that a file is whole; without effect where the cache folder cannot be written."""
    if not state.has_settled:
        return
    with contextlib.suppress(OSError, StorageError):
        note = _note(state)
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(note) as file:
            file.write(json.dumps(dataclasses.asdict(state)).encode())


def _note(state: FileState) -> Path:
    """One note for each path, so that there are never more of them than models."""
    return cache_directory() / "verified" / hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]
