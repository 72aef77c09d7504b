"""JSON and JSON lines -> rows.

What people call `.json` is a list of objects, an object that has the list under some name, columns of equal
length, or JSON lines; and some `.jsonl` is a list. The content decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tercet.data.rows import Row, RowError, just
from tercet.data.shapes import COLUMNS
from tercet.errors import FormatError

__all__ = ["parse_json", "read_json", "read_json_lines"]

_CONTAINERS = ("data", "train", "rows", "examples", "instances", "items", "samples")
_KNOWN = {name for names in COLUMNS.values() for name in names}
_BOM = b"\xef\xbb\xbf"


def read_json_lines(file: BinaryIO, path: Path) -> Iterator[Row]:
    """Yield one row for each line; blank lines are none."""
    for number, line in enumerate(file, 1):
        text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if number == 1 and text[:1] == b"[":
            yield from _from_document(text + b"\n" + file.read(), path)
            return
        if text:
            yield Row(f"{path}, row {number}", partial(_parse_line, text))


def read_json(file: BinaryIO, path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON document, or of JSON lines."""
    yield from _from_document(file.read().removeprefix(_BOM), path)


def parse_json(text: bytes) -> object:
    """Parse JSON in UTF-8.

    Raises:
        ValueError: it is none; json.JSONDecodeError where the text is UTF-8.
    """
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("lists and objects are too deep") from error


def _parse_line(text: bytes) -> object:
    try:
        return parse_json(text)
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 text: byte {error.start} is 0x{text[error.start]:02x}") from error
    except ValueError as error:
        raise RowError(f"not valid JSON ({error}); JSON lines have one object a line") from error


def _from_document(text: bytes, path: Path) -> Iterator[Row]:
    if not text.strip():
        return
    try:
        document = parse_json(text)
    except json.JSONDecodeError as error:
        lines = text.splitlines()
        if error.msg == "Extra data" and text.lstrip()[:1] == b"{":  # a second object: lines after all
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield Row(f"{path}, row {number}", partial(_parse_line, line.strip()))
            return
        raise FormatError(f"{path}: not valid JSON ({error})") from error
    except ValueError as error:
        raise FormatError(f"{path}: not valid JSON ({error})") from error
    rows = _rows_of(document)
    if rows is None:
        raise FormatError(
            f"{path}: expected a list of rows, and this is one {type(document).__name__} without any. "
            "Write a list of objects, or one object a line"
        )
    for number, row in enumerate(rows, 1):
        yield Row(f"{path}, row {number}", partial(just, row))


def _rows_of(document: object) -> list[object] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, Mapping):
        return None
    for name in _CONTAINERS:
        if _is_table(document.get(name)):
            return list(document[name])
    known = {name for name in document if str(name).lower() in _KNOWN}
    values = list(document.values())
    columns = all(isinstance(value, list) for value in values)
    if known and not (columns and len(values) > 1):
        return [document]
    if columns and len(values) > 1 and len({len(value) for value in values}) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    tables = [value for value in values if _is_table(value)]
    return list(tables[0]) if len(tables) == 1 else None


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
