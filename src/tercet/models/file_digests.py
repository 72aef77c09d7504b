"""The SHA-256 of large files, remembered as long as nobody has written to them.

A digest is noted in the cache folder, `digests/`, under the same conditions as the note that a native file
is whole (`tercet.formats.tercet.verified`), so that a model of gigabytes is read for this only once.
Who can write to the cache folder can write such notes: they protect from damage and from other people's
files, not from the owner of the account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from pathlib import Path

from tercet.environment import atomic_write, cache_directory
from tercet.errors import FormatError, ModelNotFoundError, StorageError
from tercet.formats.tercet.verified import FileState
from tercet.security.manifest import sha256_of

__all__ = ["file_digest"]

MIN_REMEMBERED_BYTES = 1 << 24
"""Smaller files are read faster than looked up."""


def file_digest(path: Path, remember: bool = True) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Args:
        path: the file.
        remember: whether a note of before may be believed, and one is left.

    Raises:
        FormatError: it is not a regular file.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)  # opening a pipe must not wait for its writer
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{path} is not a regular file")
            state = FileState.of(path, status)
            remember = remember and state.num_bytes >= MIN_REMEMBERED_BYTES
            if remember and (known := _noted(state)) is not None:
                return known
            digest = sha256_of(file)
            unchanged = FileState.of(path, os.fstat(descriptor)) == state
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no file {path}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot read {path}: {reason}. Check the path and its permissions.") from error
    if remember and unchanged and state.has_settled:
        _note(state, digest)
    return digest


def _noted(state: FileState) -> str | None:
    try:
        noted = json.loads(_place(state).read_bytes())
        digest = noted.pop("sha256")
    except (OSError, ValueError, TypeError, AttributeError, KeyError, StorageError):
        return None
    return digest if noted == dataclasses.asdict(state) and isinstance(digest, str) else None


def _note(state: FileState, digest: str) -> None:
    with contextlib.suppress(OSError, StorageError):
        place = _place(state)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(json.dumps({**dataclasses.asdict(state), "sha256": digest}).encode())


def _place(state: FileState) -> Path:
    return cache_directory() / "digests" / hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]
