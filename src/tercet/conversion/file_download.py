"""One file from the Hub to the disk: it goes on where it stopped, and gets its name when every byte is right.

    config.json.part  ->  size and hash as the Hub says?  ->  config.json

A large file is identified by its SHA-256, a small one by its Git object id: SHA-1 of `blob SIZE`, a zero byte
and the content. (Of these two only the first withstands forgery; the second still shows damage.)
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from tercet.conversion.hub_selection import RemoteFile
from tercet.errors import ChecksumError, FormatError, StorageError
from tercet.models.hub_client import transport_error
from tercet.models.hub_names import PART

__all__ = ["download_file", "matches"]

CHUNK_BYTES = 1 << 22
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def download_file(
    file: RemoteFile,
    url: str,
    target: Path,
    headers: Mapping[str, str],
    progress: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Download a file to `target`, or the rest of it, and check it.

    Args:
        file: what it must be.
        url: where it is.
        target: where it goes; its folder exists.
        headers: of the request, such as an access token.
        progress: is told how many bytes of the file are there.

    Raises:
        ChecksumError: it is not the file that the Hub describes. Nothing is left of it.
        FormatError: there is more of it than the Hub says.
        StorageError: it cannot be written.
        OSError: the connection was lost for good; what has come stays, for the next time.
    """
    partial = target.with_name(target.name + PART)
    try:
        with partial.open("r+b" if partial.exists() else "x+b") as opened:
            begun = opened.seek(0, os.SEEK_END)
            if begun > file.num_bytes:
                begun = opened.seek(0)
                opened.truncate()
            progress(begun)
            _fetch(file, url, opened, begun, headers, progress)
            opened.flush()
            os.fsync(opened.fileno())
        if not matches(partial, file):
            partial.unlink()
            raise ChecksumError(
                f"{file.path} is not what the Hub says it is: its content does not have the id {file.oid}. "
                "It was deleted; pull again."
            )
        partial.replace(target)
    except _TooLong:
        partial.unlink(missing_ok=True)
        raise FormatError(
            f"{file.path} is longer than the {file.num_bytes:,} bytes that the Hub says. It was deleted."
        ) from None
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            reason = (error.strerror or str(error)).lower()
            raise StorageError(
                f"cannot write {target}: {reason}. Free some space, or set TERCET_CACHE to another folder."
            ) from error
        raise


def _fetch(
    file: RemoteFile,
    url: str,
    opened: BinaryIO,
    begun: int,
    headers: Mapping[str, str],
    progress: Callable[[int], None],
) -> None:
    """Append what is missing. An attempt that brought something before the connection broke earns another."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()  # there is one progress, told to `progress`
    counted = cast(BinaryIO, _Counted(opened, file, progress))
    while begun < file.num_bytes:
        try:
            http_get(url, counted, resume_size=begun, headers=dict(headers), expected_size=file.num_bytes)
            return
        except HfHubHTTPError:
            raise
        except (transport_error(), OSError) as error:
            here = opened.seek(0, os.SEEK_END)
            if here <= begun or getattr(error, "errno", None) in _DISK_ERRORS:
                raise
            begun = here


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether the file at `path` has the size and the content that the Hub says."""
    if path.stat().st_size != file.num_bytes:
        return False
    is_git = len(file.oid) == 40
    digest = hashlib.sha1(b"blob %d\0" % file.num_bytes) if is_git else hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == file.oid


class _TooLong(Exception):  # noqa: N818 (it never leaves this module)
    """A server sends more than it announced."""


class _Counted:
    """The file that is being written, as the download needs it: it tells how far it is and stops in time."""

    def __init__(self, file: BinaryIO, remote: RemoteFile, progress: Callable[[int], None]) -> None:
        self._file: IO[bytes] = file
        self._limit = remote.num_bytes
        self._progress = progress

    def write(self, data: bytes) -> int:
        """Write what has come."""
        written = self._file.write(data)
        position = self._file.tell()
        if position > self._limit:
            raise _TooLong
        self._progress(position)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
