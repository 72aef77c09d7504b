"""The rows of evaluation data as they travel: JSON lines, JSON lists or CSV, packed or not, of named fields.

A `Row` knows where it came from, so that a field that is missing, or is not what a task needs, is told with
file and line. Fields are looked up under the names that different copies of a data set give them.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, ModelNotFoundError
from tercet.evaluation.documents import read_text

__all__ = ["Row", "find_data", "read_rows", "read_tables"]

PACKED = ("", ".xz", ".gz")


@dataclass(frozen=True)
class Row:
    """One example: its fields, and where it stands."""

    where: str
    values: dict[str, Any]

    def get(self, *names: str) -> Any:
        """The first of these fields that the row has; FormatError where it has none."""
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        has = ", ".join(self.values) or "none"
        raise FormatError(f"{self.where} has no field {' or '.join(map(repr, names))}; it has {has}")

    def has(self, *names: str) -> bool:
        """Whether the row has all of these fields."""
        return all(self.values.get(name) is not None for name in names)

    def text(self, *names: str) -> str:
        """A field that is a string."""
        return str(self._checked(self.get(*names), str, names))

    def integer(self, *names: str) -> int:
        """A field that is a whole number, or the digits of one; true is 1."""
        value = self.get(*names)
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{self.where}: {names[0]} is {value!r}, not a whole number") from error

    def texts(self, *names: str) -> list[str]:
        """A field that is a list of strings."""
        return [self._checked(one, str, names) for one in self._checked(self.get(*names), list, names)]

    def index(self, size: int, *names: str) -> int:
        """A field that counts from 0 and is below `size`."""
        value = self.integer(*names)
        if not 0 <= value < size:
            raise FormatError(f"{self.where}: {names[0]} is {value}, and there are {size} answers")
        return value

    def _checked(self, value: Any, kind: type, names: Sequence[str]) -> Any:
        if not isinstance(value, kind):
            raise FormatError(f"{self.where}: {names[0]} is {type(value).__name__}, not {kind.__name__}")
        return value


def find_data(folder: Path, stems: Sequence[str], endings: Sequence[str] = (".jsonl", ".json")) -> Path:
    """Return the file of a data set: its name begins with one of the stems, perhaps packed.

    Raises:
        ModelNotFoundError: there is no such folder, or no such file in it.
        FormatError: there are several.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"there is no folder {folder} with evaluation data")
    suffixes = tuple(ending + packed for ending in endings for packed in PACKED)
    for stem in stems:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.name.lower().startswith(stem.lower()) and path.name.endswith(suffixes)
        )
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise FormatError(f"{folder} has several files for {stem}: {names}; leave one of them there")
        if found:
            return found[0]
    wanted = " or ".join(f"{stem}*.jsonl" for stem in stems)
    raise ModelNotFoundError(f"{folder} has no file {wanted} (.xz and .gz are read too)")


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of a file of JSON lines, or of one JSON list.

    Raises:
        ModelNotFoundError, StorageError: the file is not there, or cannot be read.
        FormatError: a line is not a JSON object.
    """
    text = read_text(path)
    if ".jsonl" not in path.suffixes:
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise FormatError(f"{path} is not JSON: {error}") from error
        if not isinstance(rows, list):
            raise FormatError(f"{path} is not a list of rows")
        for number, value in enumerate(rows, 1):
            yield _row(f"{path}, row {number}", value)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                raise FormatError(f"{where} is not JSON: {error}") from error
            yield _row(where, value)


def _row(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise FormatError(f"{where} is {type(value).__name__}, not an object with fields")
    return Row(where, value)


def read_tables(path: Path, header: Sequence[str]) -> dict[str, list[Row]]:
    """Read the CSV files of a folder, or of an archive .tar, .tar.xz or .tar.gz, by their relative names.

    A table's first line is its header unless it has no field of `header`, which then names the columns.
    """
    files: dict[str, bytes] = {}
    if path.is_dir():
        for file in sorted(path.rglob("*.csv")):
            files[str(file.relative_to(path))] = file.read_bytes()
    else:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.name.endswith(".csv") else None
                    if stream is not None:
                        files[member.name] = stream.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise FormatError(f"{path} is not a whole archive: {error}") from error
    return {name: _table(f"{path}, {name}", files[name], header) for name in sorted(files)}


def _table(where: str, data: bytes, header: Sequence[str]) -> list[Row]:
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{where} is not CSV: {error}") from error
    names = list(header)
    start = 0
    if lines and set(lines[0]) & set(header):
        names, start = lines[0], 1
    return [
        Row(f"{where}, line {number}", dict(zip(names, line, strict=False)))
        for number, line in enumerate(lines[start:], start + 1)
        if line
    ]
