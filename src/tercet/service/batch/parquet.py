"""Batches in Parquet: a row is a request, and columns have the names that the fields of a line have.

    prompt: string   max_tokens: int64   temperature: double        a null is a field that is not there
    messages: list<struct<role: string, content: string>>

The results are a folder of files, which readers of Parquet take for one table. A file cannot be appended to;
so records wait in memory until there are enough for the next, which then appears complete or not at all.
After a kill the requests whose records were still waiting run again, 1,000 at the most.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tercet.environment import atomic_write, optional_import, storage_errors
from tercet.errors import ParameterError
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import RawLine, parse_request_id
from tercet.service.batch.results import lock_file

__all__ = ["ParquetResults", "read_rows"]

READ_ROWS = 1_000
PART_ROWS = 1_000
"""Records of a file; and the most that a kill can cost."""
_NULLABLE_TEXT = ("text", "finish_reason", "model", "metadata", "request_id")


def read_rows(file: BinaryIO, path: Path) -> Iterator[RawLine]:
    """Read the requests of a file, a few at a time; the first row is number 1.

    Raises:
        ParameterError: it is no file of Parquet, or a column cannot be read.
        MissingExtraError: there is no reader.
    """
    parquet = optional_import("pyarrow.parquet", "parquet")
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(READ_ROWS):
            for row in batch.to_pylist():
                number += 1
                data = json.dumps(_given(row), ensure_ascii=False, default=str).encode("utf-8", "replace")
                digest = hashlib.blake2b(data, digest_size=8).digest()
                yield RawLine(number, int.from_bytes(digest, "big"), data)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise ParameterError(f"{path} cannot be read as Parquet: {error}") from error


def _given(value: Any) -> Any:
    """A value without what is null in it: a struct has all of its fields in every row."""
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value


class ParquetResults:
    """A folder of results, as `ResultFile` is a file of them; `close` writes what waits.

    Args:
        path: the folder; made if it is not there.
        inventory: the input, of plain requests alone.
        overwrite: begin anew, whatever it holds.
        retry_failed: forget the records of failed requests, so that these run again.

    Raises:
        StorageError: it cannot be written, or another process writes it.
        ParameterError: it holds something else than answers to these requests.
        MissingExtraError: there is no writer of Parquet.
    """

    def __init__(
        self, path: Path, inventory: Inventory, *, overwrite: bool = False, retry_failed: bool = False
    ) -> None:
        self.path = path
        self.num_succeeded = 0
        self.num_failed = 0
        self._arrow: Any = optional_import("pyarrow", "parquet")
        self._parquet: Any = optional_import("pyarrow.parquet", "parquet")
        self._waiting: list[dict[str, Any]] = []
        if inventory.has_openai_form:
            raise ParameterError(
                f"{path}: the answers to requests of OpenAI's form have its own form, which is JSON Lines; "
                "name a file that ends in .jsonl"
            )
        with storage_errors(path, opening=True):
            path.mkdir(exist_ok=True)
        self._lock = lock_file(path / ".lock")
        try:
            for left in path.glob(".tercet-*.tmp"):  # of a process that was killed
                left.unlink()
            if overwrite:
                for part in self._parts():
                    part.unlink()
            for part in self._parts():
                self._take_note(part, inventory, retry_failed)
        except BaseException:
            self._unlock()
            raise

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take records, and write a file when there are enough of them.

        Raises:
            StorageError: the disk is full, or the like.
        """
        self._waiting.extend({**record, "metadata": _json(record["metadata"])} for record in records)
        while len(self._waiting) >= PART_ROWS:
            self._write(PART_ROWS)

    def close(self) -> None:
        """Write what waits, and let go of the folder."""
        try:
            if self._waiting:
                self._write(len(self._waiting))
        finally:
            self._unlock()

    def __enter__(self) -> ParquetResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))

    def _write(self, count: int) -> None:
        parts = self._parts()
        number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 1
        self._write_part(self.path / f"part-{number:06d}.parquet", self._waiting[:count])
        del self._waiting[:count]

    def _write_part(self, path: Path, rows: list[dict[str, Any]]) -> None:
        table = self._arrow.Table.from_pylist(rows, self._schema())
        with atomic_write(path) as file:
            self._parquet.write_table(table, file)

    def _schema(self) -> Any:
        arrow = self._arrow
        tokens = ("prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens")
        error = ("type", "message", "code")
        return arrow.schema(
            [
                ("id", arrow.string()),
                ("line", arrow.int64()),
                ("status", arrow.string()),
                *((name, arrow.string()) for name in _NULLABLE_TEXT),
                ("seed", arrow.uint64()),
                ("seconds", arrow.float64()),
                ("usage", arrow.struct([(name, arrow.int64()) for name in tokens])),
                ("error", arrow.struct([(name, arrow.string()) for name in error])),
            ]
        )

    def _take_note(self, part: Path, inventory: Inventory, retry_failed: bool) -> None:
        try:
            rows = self._parquet.read_table(part, columns=["request_id", "status"]).to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise self._stranger(part) from error
        failed = sum(row["status"] != "succeeded" for row in rows)
        if retry_failed and failed:
            kept = [row for row in self._parquet.read_table(part).to_pylist() if row["status"] == "succeeded"]
            self._write_part(part, kept)
            rows, failed = kept, 0
        for row in rows:
            found = parse_request_id(str(row["request_id"]))
            if found is None or not inventory.mark_done(*found):
                raise self._stranger(part)
        self.num_succeeded += len(rows) - failed
        self.num_failed += failed

    def _stranger(self, part: Path) -> ParameterError:
        return ParameterError(
            f"{part} answers none of these requests: the folder belongs to another batch, or its input has "
            "changed; choose another folder, or --overwrite to begin anew"
        )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
