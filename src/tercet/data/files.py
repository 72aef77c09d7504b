"""Files -> rows, as a stream: JSON lines, JSON, CSV, plain text, Parquet; the first four also compressed.

    .jsonl .ndjson    one JSON object a line
    .json             a list of objects, an object with such a list in it, or JSON lines after all
    .csv .tsv         the first line names the columns
    .parquet          columns have their names
    .txt              a row is a paragraph: what stands between blank lines

With .gz, .bz2 or .xz behind it the file is unpacked on the way. Text is UTF-8.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from tercet.data.json_files import read_json, read_json_lines
from tercet.data.rows import Row, RowError, just
from tercet.data.tables import read_parquet
from tercet.errors import FormatError, StorageError, TrainingError

__all__ = ["SUFFIXES", "is_data_file", "kind_of", "read_file"]

_UNPACK: dict[str, Callable[[Path], Any]] = {
    ".gz": partial(gzip.open, mode="rb"),
    ".bz2": partial(bz2.open, mode="rb"),
    ".xz": partial(lzma.open, mode="rb"),
}
MOST_FIELD_CHARACTERS = 1 << 27


def is_data_file(path: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return kind_of(path) is not None


def kind_of(path: PurePath) -> str | None:
    """The end of a file's name that says how its rows are read, if it does."""
    suffix = _suffix(path)
    return suffix if suffix in SUFFIXES else None


def read_file(path: Path, name: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        path: the file.
        name: what it is called in places and messages, if not by its path.

    Raises:
        TrainingError: there is no such file.
        StorageError: it cannot be read.
        FormatError: it is damaged, or of another kind than its name says.
    """
    shown = path if name is None else Path(name)
    kind = kind_of(path)
    if kind is None:
        raise FormatError(
            f"{shown} is of no kind that holds rows; the names of those end in {', '.join(sorted(SUFFIXES))} "
            f"(the text files also with {', '.join(_UNPACK)} behind it)"
        )
    with _reading(shown), cast("BinaryIO", _UNPACK.get(path.suffix.lower(), _open)(path)) as file:
        yield from SUFFIXES[kind](file, shown)


def _suffix(path: PurePath) -> str:
    name = PurePath(path.stem) if path.suffix.lower() in _UNPACK else path
    return name.suffix.lower()


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TrainingError(f"there is no data file {path}") from error
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise FormatError(f"{path} is not a whole {path.suffix} file: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """The lines of a text with their ends, without the mark that some programs put in front."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path}, line {number} is not UTF-8 text: byte {error.start} is "
                f"0x{error.object[error.start]:02x}. Convert the file first, for example with iconv"
            ) from error


def _read_csv(file: BinaryIO, path: Path) -> Iterator[Row]:
    lines = _lines(file, path)
    header = next(lines, "")
    separator = max("\t;,", key=header.count)  # the comma where none occurs
    previous = csv.field_size_limit(MOST_FIELD_CHARACTERS)
    try:
        (names,) = csv.reader([header], delimiter=separator, strict=True) if header.strip() else ([],)
    except (csv.Error, ValueError) as error:
        raise FormatError(f"{path}: the first line does not name columns ({error})") from error
    finally:
        csv.field_size_limit(previous)
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise FormatError(f"{path}: two columns have the same name: {', '.join(names)}")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number = 0
    while True:
        first_line = reader.line_num + 2
        place = f"{path}, row {number + 1} (line {first_line})"
        # The limit is the whole process's, so it is ours only while a row is read.
        previous = csv.field_size_limit(MOST_FIELD_CHARACTERS)
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise FormatError(f"{place}: not CSV ({error})") from error
        finally:
            csv.field_size_limit(previous)
        if values is None:
            return
        if values:
            number += 1
            yield Row(place, partial(_named, names, values))


def _named(names: list[str], values: list[str]) -> dict[str, str]:
    if len(values) != len(names):
        raise RowError(
            f"has {len(values)} fields, and the first line names {len(names)} columns ({', '.join(names)}); "
            "a field with a separator in it stands in double quotes"
        )
    return dict(zip(names, values, strict=True))


def _read_text(file: BinaryIO, path: Path) -> Iterator[Row]:
    number = first_line = 0
    paragraph: list[str] = []
    for line_number, line in enumerate(_lines(file, path), 1):
        if line.strip():
            first_line = first_line if paragraph else line_number
            paragraph.append(line)
        elif paragraph:
            number += 1
            yield _paragraph(path, number, first_line, paragraph)
            paragraph = []
    if paragraph:
        yield _paragraph(path, number + 1, first_line, paragraph)


def _paragraph(path: Path, number: int, line: int, lines: list[str]) -> Row:
    text = "".join(lines).replace("\r\n", "\n").rstrip("\n")
    return Row(f"{path}, row {number} (line {line})", partial(just, text))


def _read_parquet(file: BinaryIO, path: Path) -> Iterator[Row]:
    yield from read_parquet(file, str(path))


SUFFIXES: dict[str, Callable[[BinaryIO, Path], Iterator[Row]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_text,
    ".parquet": _read_parquet,
}
"""End of a name -> how such a file is read."""
