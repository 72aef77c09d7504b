"""The folder of the batch API: files that clients send, batches that they start, and what came of them.

    files/file-1f2e....json       what the file is: OpenAI's object
    files/file-1f2e....data       its bytes
    batches/batch_9a0b....json    how far the batch is: OpenAI's object
    batches/batch_9a0b....jsonl   its results so far (`tercet.service.batch.results`)

Every file appears complete or not at all, data before what describes it, so a process that is killed leaves
nothing that another could trip over. Identifiers are drawn here and checked before they become a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tercet.environment import atomic_write, storage_errors
from tercet.errors import ParameterError, StorageError
from tercet.security.identity import LOCAL
from tercet.service.batch.results import lock_file

__all__ = ["BatchStore", "derived_file_id"]

_IDS = {"files": re.compile(r"file-[0-9a-f]{24}"), "batches": re.compile(r"batch_[0-9a-f]{24}")}


class BatchStore:
    """Files and batches in a folder. Used from several threads of one process.

    Args:
        folder: made if it is not there.
        max_bytes: of all files together.

    Raises:
        StorageError: the folder cannot be made, or another server uses it.
    """

    def __init__(self, folder: Path, max_bytes: int = 16 << 30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # one batch after the other, so that the latest state is the last
        with storage_errors(folder, opening=True):
            for part in _IDS:
                (folder / part).mkdir(parents=True, exist_ok=True)
        self._lock_descriptor = lock_file(folder / "lock")
        try:
            self._objects = {part: dict(self._read(part)) for part in _IDS}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    # Files --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_file(
        self, filename: str, purpose: str, file_id: str | None = None, owner: str = LOCAL.key_id
    ) -> Iterator[NewFile]:
        """Open a new file to write; it is there when the block ends without an error.

        `owner` is the id of the key that it belongs to.

        Raises:
            StorageError: the disk is full, or all files together are larger than they may be.
        """
        new = NewFile(file_id or f"file-{secrets.token_hex(12)}", self._room(), owner)
        new.describe(filename, purpose)
        with atomic_write(self._folder / "files" / f"{new.id}.data") as file:
            new.file = file
            yield new
        new.object["bytes"] = new.num_bytes
        self._write("files", new.object)
        with self._lock:
            self._objects["files"][new.id] = new.object

    def files(self) -> list[dict[str, Any]]:
        """The objects of all files, the latest first."""
        return self._all("files")

    def file(self, file_id: str) -> dict[str, Any] | None:
        """The object of a file, None where there is none."""
        return self._objects["files"].get(file_id)

    def file_path(self, file_id: str) -> Path:
        """Where the bytes of a file are.

        Raises:
            ParameterError: there is no such file.
        """
        if self.file(file_id) is None:
            raise ParameterError(f"there is no file {file_id[:60]!r}")
        return self._folder / "files" / f"{file_id}.data"

    def delete_file(self, file_id: str) -> None:
        """Remove a file, first what describes it. Nothing happens where there is none."""
        with self._lock:
            if self._objects["files"].pop(file_id, None) is not None:
                (self._folder / "files" / f"{file_id}.json").unlink(missing_ok=True)
                (self._folder / "files" / f"{file_id}.data").unlink(missing_ok=True)

    # Batches ------------------------------------------------------------------------------------

    def batches(self) -> list[dict[str, Any]]:
        """The objects of all batches, the latest first."""
        return self._all("batches")

    def batch(self, batch_id: str) -> dict[str, Any] | None:
        """The object of a batch, None where there is none."""
        return self._objects["batches"].get(batch_id)

    def put_batch(self, batch: dict[str, Any]) -> None:
        """Hold the object of a batch, which `write_batch` then brings to the disk."""
        with self._lock:
            self._objects["batches"][batch["id"]] = batch

    def write_batch(self, batch_id: str, batch: dict[str, Any] | None = None) -> None:
        """Write the object of a batch, None as it is held now; it takes as long as the disk does."""
        with self._writing:
            batch = batch or self.batch(batch_id)
            if batch is not None:
                self._write("batches", batch)

    def results_path(self, batch_id: str) -> Path:
        """Where the results of a batch are, while it runs."""
        return self._folder / "batches" / f"{batch_id}.jsonl"

    def delete_results(self, batch_id: str) -> None:
        """Remove the results of a batch that has ended: its files have them."""
        self.results_path(batch_id).unlink(missing_ok=True)

    # Both ---------------------------------------------------------------------------------------

    def _read(self, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The objects that another process has left; half a file without its object is removed."""
        for path in sorted((self._folder / part).iterdir()):
            described = path.with_suffix(".json")
            if path.suffix == ".json" and _IDS[part].fullmatch(path.stem):
                yield path.stem, self._object(path)
            elif path.suffix == ".data" and _IDS[part].fullmatch(path.stem) and not described.exists():
                path.unlink(missing_ok=True)

    def _object(self, path: Path) -> dict[str, Any]:
        try:
            value = json.loads(path.read_bytes())
        except ValueError as error:
            raise StorageError(f"{path} is damaged: {error}; remove it to go on without it") from error
        if not isinstance(value, dict) or value.get("id") != path.stem:
            raise StorageError(f"{path} does not describe {path.stem}; remove it to go on without it")
        return value

    def _write(self, part: str, value: dict[str, Any]) -> None:
        with atomic_write(self._folder / part / f"{value['id']}.json") as file:
            file.write(json.dumps(value, ensure_ascii=False).encode())

    def _all(self, part: str) -> list[dict[str, Any]]:
        with self._lock:
            values = list(self._objects[part].values())
        return sorted(values, key=lambda value: (value["created_at"], value["id"]), reverse=True)

    def _room(self) -> int:
        return self._max_bytes - sum(int(value["bytes"]) for value in self.files())


class NewFile:
    """A file that is being written; `object` describes it when it is there."""

    def __init__(self, file_id: str, room: int, owner: str = LOCAL.key_id) -> None:
        self.id = file_id
        self.owner = owner
        self.num_bytes = 0
        self.file: BinaryIO | None = None
        self.object: dict[str, Any] = {}
        self._room = room

    def describe(self, filename: str, purpose: str) -> None:
        """Say what it is, which may be known only when it has been read."""
        self.object = {
            "id": self.id,
            "object": "file",
            "bytes": 0,
            "created_at": int(time.time()),
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
            "owner": self.owner,
        }

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            StorageError: the folder holds as much as it may.
        """
        self.num_bytes += len(data)
        if self.num_bytes > self._room or self.file is None:
            raise StorageError("the folder of batches holds as much as it may; delete files that are done")
        self.file.write(data)


def derived_file_id(batch_id: str, what: str) -> str:
    """The identifier of a file that a batch makes: the same one, however often it is made again."""
    return "file-" + hashlib.sha256(f"{batch_id} {what}".encode()).hexdigest()[:24]
