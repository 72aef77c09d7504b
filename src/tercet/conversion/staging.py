"""The place where a result grows before it gets its name, and how a killed conversion is gone on with.

    .NAME.partial            the file, or the folder, that will be NAME
    .NAME.partial.journal    what is known to be in it

The journal's first line says what is being converted into what; then comes a line for each tensor that is in
the file and on the disk. A conversion that ends in an exception (Ctrl-C, a full disk) takes both away. One
that is killed leaves them, and the next conversion of the same source into the same result reads the journal,
cuts the file behind the last tensor of which it knows, and goes on there. If anything is different, down to
the time at which the source was changed, it begins anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tercet.environment import storage_errors
from tercet.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: without locks, two conversions into one file are the caller's affair
    fcntl = None  # type: ignore[assignment]

__all__ = ["Staging", "staging"]

SYNC_BYTES = 64 << 20
"""How much may be written before the disk has to have it, and so at most is lost when the power fails."""


@dataclasses.dataclass(eq=False)
class Staging:
    """An open place. `done` says what was found of an earlier attempt."""

    path: Path
    """What will be renamed to the target."""
    file: BinaryIO
    """The file that tensors are written into, at its beginning."""
    done: dict[str, str]
    """Tensors that the file holds already, in order, with their digests."""
    _journal: BinaryIO
    _pending: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    _synced: int = 0

    def note(self, tensor: str, digest: str) -> None:
        """Note that a tensor was written; digest is what its writer must know to skip it."""
        self._pending.append((tensor, digest))
        if self.file.tell() - self._synced >= SYNC_BYTES:
            self._sync()

    def finish(self) -> None:
        """Put the file on the disk and close it."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def _sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self._synced = self.file.tell()
        lines = [json.dumps({"tensor": tensor, "digest": digest}) for tensor, digest in self._pending]
        self._journal.write("".join(line + "\n" for line in lines).encode())
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._pending.clear()


@contextlib.contextmanager
def staging(target: Path, fingerprint: str, *, inner_file: str | None = None) -> Iterator[Staging]:
    """Open the place beside `target`; what is left in it when the block ends is removed.

    Args:
        target: the file or folder that is to be.
        fingerprint: says what is converted into what; a partial result is used only if it says the same.
        inner_file: for a folder, the name of the file in it that tensors are written into.

    Raises:
        StorageError: the place cannot be written to, or another conversion is writing there.
    """
    path = target.with_name(f".{target.name}.partial")
    journal_path = target.with_name(f".{target.name}.partial.journal")
    data_path = path if inner_file is None else path / inner_file
    with storage_errors(target), contextlib.ExitStack() as stack:
        with storage_errors(target, opening=True):
            journal = stack.enter_context(_open(journal_path))
            _lock(journal, target)
            stack.callback(_remove, path, journal_path)  # runs before the lock is given back
            done = _read_journal(journal, fingerprint) if data_path.exists() else {}
            if not done:
                _remove(path)
                if inner_file is not None:
                    path.mkdir()
                journal.seek(0)
                journal.truncate()
                journal.write(fingerprint.encode() + b"\n")
                journal.flush()
            file = stack.enter_context(_open(data_path))
        yield Staging(path, file, done, journal)


def _open(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    return open(descriptor, "r+b")  # noqa: PTH123  (of a descriptor)


def _lock(journal: BinaryIO, target: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"{target} is being written by another conversion. Wait for it, or choose another name."
        ) from error


def _read_journal(journal: BinaryIO, fingerprint: str) -> dict[str, str]:
    journal.seek(0)
    first, *lines = journal.read().split(b"\n")
    done: dict[str, str] = {}
    if first.decode(errors="replace") != fingerprint:
        return done
    for line in lines:
        try:
            entry = json.loads(line)
            done[entry["tensor"]] = entry["digest"]
        except (ValueError, TypeError, KeyError):  # the last line of a journal whose writer was killed
            break
    return done


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
