"""Reading the text of an evaluation: plain text is one document, JSON lines are one each; .xz, .gz unpack."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, ModelNotFoundError, StorageError

_UNPACK: dict[str, Any] = {".xz": lzma.decompress, ".gz": gzip.decompress}


def read_documents(path: Path, field: str = "text") -> Iterator[str]:
    """Yield the documents of a file. In JSON lines each line is a string, or an object with its text in
    `field`.

    Raises:
        ModelNotFoundError, StorageError: the file is not there, or cannot be read.
        FormatError: it is not UTF-8, or a line is not what it should be.
    """
    text = read_text(path)
    if ".jsonl" not in path.suffixes:
        yield text
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _document(line, f"{path}, line {number}", field)


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked; raises what `read_documents` raises."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        unpack = _UNPACK.get(path.suffix)
        return (unpack(data) if unpack else data).decode()
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise FormatError(f"{path} is not a whole {path.suffix} file: {error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from error


def _document(line: str, where: str, field: str) -> str:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise FormatError(f"{where} is not JSON: {error}") from error
    if isinstance(value, dict):
        if field not in value:
            raise FormatError(
                f"{where} has no field {field!r}; it has {', '.join(value) or 'none'} (see --field)"
            )
        value = value[field]
    if not isinstance(value, str):
        raise FormatError(f"{where}: the text is {type(value).__name__}, not a string")
    return value
