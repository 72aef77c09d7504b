"""The output of a batch: records are appended and synchronized, and survive whatever happens next.

After a kill the last line may be torn. Its end is missing, so it is cut off when the file is opened again,
and its request runs again: nobody can have read it. Every line before it was synchronized whole. A lock on
the file keeps a second process from writing the same records.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tercet.environment import atomic_write, storage_errors
from tercet.errors import ParameterError, StorageError
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import parse_request_id

__all__ = ["ResultFile", "Results", "is_success", "lock_file"]

_TAIL_BYTES = 1 << 16


class Results(Protocol):
    """Where the records of a batch go; it has told the inventory which requests have one."""

    num_succeeded: int
    """When it was opened."""
    num_failed: int

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Keep records, whatever happens next; StorageError where that is not possible."""


class ResultFile:
    """Opens the output of a batch, takes note in `inventory` of what is done, and appends the rest.

    Args:
        path: the file; made if it is not there.
        inventory: the input.
        overwrite: begin anew, whatever the file holds.
        retry_failed: forget the records of failed requests, so that these run again.

    Raises:
        StorageError: it cannot be written, or another process writes it.
        ParameterError: it holds something else than answers to these requests.
    """

    def __init__(
        self, path: Path, inventory: Inventory, *, overwrite: bool = False, retry_failed: bool = False
    ) -> None:
        self.path = path
        self.num_succeeded = 0
        self.num_failed = 0
        self._descriptor = lock_file(path)
        try:
            if overwrite:
                os.ftruncate(self._descriptor, 0)
            else:
                self._cut_torn_line()
                if retry_failed:
                    self._forget_failed()
                self._count(inventory)
        except BaseException:
            self.close()
            raise

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records, a line each, and return when they are on the disk.

        Raises:
            StorageError: the disk is full, or the like.
        """
        lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records]
        rest = memoryview("".join(lines).encode())
        with storage_errors(self.path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        end = size
        with self.path.open("rb") as file:
            while end:
                begin = max(0, end - _TAIL_BYTES)
                file.seek(begin)
                position = file.read(end - begin).rfind(b"\n")
                if position >= 0:
                    end = begin + position + 1
                    break
                end = begin
        if end != size:
            self._check_it_is_ours(end)
            with storage_errors(self.path):
                os.ftruncate(self._descriptor, end)
                os.fsync(self._descriptor)

    def _check_it_is_ours(self, end: int) -> None:
        """Cut nothing off a file that somebody has named by mistake: a first line of ours, or one torn."""
        with self.path.open("rb") as file:
            begin = file.read(16)
        if end == 0 and not b'{"id": "'.startswith(begin[:8]):
            raise ParameterError(
                f"{self.path} holds something else than results of a batch; choose another file, or "
                "--overwrite to begin anew"
            )

    def _records(self) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        with self.path.open("rb") as file:
            for position, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError
                except (ValueError, RecursionError) as error:
                    raise self._stranger(position) from error
                yield position, line, record

    def _count(self, inventory: Inventory) -> None:
        for position, _, record in self._records():
            found = parse_request_id(_own_id(record))
            if found is None or not inventory.mark_done(*found):
                raise self._stranger(position)
            if is_success(record):
                self.num_succeeded += 1
            else:
                self.num_failed += 1

    def _forget_failed(self) -> None:
        with atomic_write(self.path) as file:
            for _, line, record in self._records():
                if is_success(record):
                    file.write(line)
        self.close()
        self._descriptor = lock_file(self.path)  # another file has the name now

    def _stranger(self, position: int) -> ParameterError:
        return ParameterError(
            f"line {position} of {self.path} answers none of these requests: the file belongs to another "
            "batch, or its input has changed; choose another file, or --overwrite to begin anew"
        )


def is_success(record: Mapping[str, Any]) -> bool:
    """Whether the record of a request, in either form, holds an answer."""
    if "status" in record:
        return bool(record["status"] == "succeeded")
    response = record.get("response")
    return isinstance(response, dict) and bool(response.get("status_code", 500) < 400)


def _own_id(record: Mapping[str, Any]) -> str:
    value = record.get("request_id", record.get("id"))
    return value if isinstance(value, str) else ""


def lock_file(path: Path) -> int:
    """Open a file to append to it, and keep other processes from that until it is closed, in whatever way.

    Raises:
        StorageError: it cannot be written, or another process has it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    with storage_errors(path, opening=True):
        descriptor = os.open(path, flags, 0o666)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: nobody is kept out
        pass
    except OSError as error:
        os.close(descriptor)
        raise StorageError(f"another process is writing to {path}; wait for it, or choose another") from error
    return descriptor
