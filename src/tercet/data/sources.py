"""What a person names as data -> rows with their places."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Union

from tercet.data.rows import Row, RowError
from tercet.errors import TrainingError

__all__ = ["Rows", "Source", "open_source"]

Source = Union[str, "os.PathLike[str]", Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Rows:
    """Rows, and what to call them."""

    name: str
    rows: Iterator[Row]


def open_source(source: Source) -> Rows:
    """Open a data set."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise TrainingError(f"there is no data file {path}")
        return Rows(str(path), _json_lines(path))
    return Rows(
        "the given rows",
        (Row(f"row {number}", partial(_same, row)) for number, row in enumerate(source, 1)),
    )


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Row(f"{path}, row {number}", partial(_parse, line))


def _parse(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RowError(f"not valid JSON ({error})") from error


def _same(value: object) -> object:
    return value
