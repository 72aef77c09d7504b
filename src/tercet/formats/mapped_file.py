"""A file mapped into memory, read-only, with every access checked against its length.

A file that becomes shorter *after* that takes the process with it, like any mapped file. This is as it
should be for a program that makes one file from another: what it writes gets its name only when it is
complete. A server has more to lose, so what it opens within `guarded_files` outlives its file: see
`MappedFile.is_damaged`.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ModelNotFoundError, StorageError
from tercet.formats.weights_memory import chosen_memory, read_into_memory
from tercet.kernels.mapped_memory import MappedGuard

__all__ = ["MappedFile", "guarded_files", "is_file_name", "read_bytes"]

MAX_SMALL_FILE_BYTES = 1 << 28
MAX_NAME_BYTES = 255
"""What file systems allow."""

Bytes = npt.NDArray[np.uint8]


class MappedFile:
    """The bytes of a regular file. Views stay valid as long as somebody holds one; nothing is copied.

    Args:
        path: the file.
        memory: one of `tercet.formats.weights_memory.WEIGHTS_MEMORY`; with `huge`, everything is read at once
            into memory of our own, and views are views of that.

    Raises:
        ParameterError: there is no such memory.
        ModelNotFoundError: nothing is at `path`.
        StorageError: the operating system will not let us read it.
        MemoryError: the process may have no more memory.
        FormatError: it is empty, or not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str], memory: str = "mapped") -> None:
        self.path = Path(path)
        try:
            # O_NONBLOCK: opening a pipe must not wait for its writer.
            descriptor = os.open(
                self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise FormatError(
                        f"{self.path} is not a regular file, expected a file with a model in it"
                    )
                if status.st_size == 0:
                    raise FormatError(f"{self.path} is empty (0 bytes)")
                self.status = status
                """What the operating system says of the very file that is mapped."""
                self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"there is no file {self.path}") from error
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOMEM:
                raise MemoryError(f"there is no room in memory to map {self.path}") from error
            reason = getattr(error, "strerror", None) or str(error)
            raise StorageError(
                f"cannot read {self.path}: {reason.lower()}. Check the path and its permissions."
            ) from error
        self.num_bytes = len(self._map)
        self.memory: str = chosen_memory(memory, self.num_bytes)
        """`mapped` or `huge`."""
        self._bytes: Bytes = (
            read_into_memory(self.path, self.num_bytes)
            if self.memory == "huge"
            else np.frombuffer(self._map, dtype=np.uint8)
        )
        self._guard: MappedGuard | None = None
        guarded = _GUARDED.get()
        if guarded is not None:
            self._guard = MappedGuard(np.frombuffer(self._map, dtype=np.uint8))
            guarded.append(self)

    @property
    def is_damaged(self) -> bool:
        """Whether a guarded file was shorter than it had been when something behind its end was read.

        That was read as zeros, so nothing that was made of it since then is worth anything.
        """
        return self._guard is not None and self._guard.is_damaged

    def view(self, offset: int, num_bytes: int, what: str) -> Bytes:
        """Return bytes `offset` to `offset + num_bytes` without copying them.

        Raises:
            FormatError: they reach past the end of the file; `what` names them in the message.
        """
        if offset < 0 or num_bytes < 0 or offset + num_bytes > self.num_bytes:
            raise FormatError(
                f"{self.path}: {what} takes bytes {offset} to {offset + num_bytes}, "
                f"but the file ends at {self.num_bytes}. It is truncated or damaged; get it again."
            )
        return self._bytes[offset : offset + num_bytes]

    def read_ahead(self) -> None:
        """Tell the operating system that all of the file is about to be read."""
        if self.memory == "mapped" and hasattr(mmap, "MADV_WILLNEED"):
            self._map.madvise(mmap.MADV_WILLNEED)

    def release(self) -> None:
        """Give back the memory that reading has filled. Views stay valid: what they need is read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


_GUARDED: ContextVar[list[MappedFile] | None] = ContextVar("guarded files", default=None)


@contextlib.contextmanager
def guarded_files() -> Iterator[list[MappedFile]]:
    """Guard the files that are opened within, as long as somebody holds them; gives the list of them.

    Whoever uses them looks at `is_damaged` of each, behind every use.
    """
    files: list[MappedFile] = []
    token = _GUARDED.set(files)
    try:
        yield files
    finally:
        _GUARDED.reset(token)


def is_file_name(name: str) -> bool:
    """Say whether a name in a file can be that of a file beside it: no path, printable, not too long."""
    return (
        name == Path(name).name != ".."
        and "\\" not in name
        and name.isprintable()
        and 1 <= len(name.encode("utf-8")) <= MAX_NAME_BYTES
    )


def read_bytes(path: str | os.PathLike[str], max_bytes: int = MAX_SMALL_FILE_BYTES) -> bytes:
    """Return the content of a file that has no reason to be large, such as a config or a tokenizer.

    Raises:
        FormatError: it is empty, not a regular file, or larger than `max_bytes`.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    file = MappedFile(path)
    if file.num_bytes > max_bytes:
        raise FormatError(f"{file.path} is {file.num_bytes} bytes long, expected at most {max_bytes}")
    return file.view(0, file.num_bytes, "the file").tobytes()
