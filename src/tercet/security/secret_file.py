"""One secret in a file of its owner's, and the keys that are made from it.

    secret = load_secret("/var/lib/tercet/security.key")     made if it is not there, mode 600
    derived_key(secret, CLIENT_IDS)                          another key for each purpose

Keys of different purposes say nothing about each other. Whoever deletes the file makes all hashes of clients
anonymous for good, and can no longer verify the audit log that was written with it: keep it elsewhere than
the log.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Literal

from tercet.errors import FormatError, StorageError

__all__ = ["Purpose", "derived_key", "load_secret", "new_secret"]

SECRET_BYTES = 32

Purpose = Literal["client ids", "audit chain"]


def new_secret() -> bytes:
    """Return a secret for this process alone."""
    return secrets.token_bytes(SECRET_BYTES)


def derived_key(secret: bytes, purpose: Purpose) -> bytes:
    """Return the key of a purpose: 32 bytes."""
    return hmac.digest(secret, f"tercet {purpose}".encode(), "sha256")


def load_secret(path: str | os.PathLike[str], *, make: bool = True) -> bytes:
    """Read the secret of a file.

    Args:
        path: the file: hexadecimal digits, one line.
        make: whether it is made, with mode 600, if it is not there.

    Raises:
        FormatError: the file holds something else.
        StorageError: it can neither be read nor made, or others than its owner may read it.
    """
    file = Path(path)
    try:
        text = _read_or_make(file) if make else _read(file)
    except OSError as error:
        raise StorageError(f"cannot keep a secret in {file}: {error.strerror or error}") from error
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise FormatError(f"{file} is not a secret: it has {2 * SECRET_BYTES} hexadecimal digits, one line")
    return secret


def _read_or_make(file: Path) -> bytes:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(file)
    text = secrets.token_hex(SECRET_BYTES).encode()
    with os.fdopen(descriptor, "wb") as made:
        made.write(text + b"\n")
        made.flush()
        os.fsync(made.fileno())
    return text


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise StorageError(
                f"others than its owner may read {file} (mode {mode:o}), so it keeps no secret; "
                f"make a new one, or: chmod 600 {file}"
            )
        return opened.read(1_024)
