"""A data set from Python: `create_dataset([{"input": "...", "output": "..."}, ...], "data.jsonl")`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tercet.data.rows import Row, RowError, UnusableRowError, just
from tercet.data.shapes import recognize
from tercet.environment import atomic_write
from tercet.errors import FormatError, ParameterError, TrainingError

__all__ = ["create_dataset"]

SUFFIXES = (".jsonl", ".ndjson", ".json")


def create_dataset(rows: Iterable[Mapping[str, Any] | str], path: str | os.PathLike[str]) -> Path:
    """Write rows to a file that `prepare`, `FineTuner` and `tercet finetune` read, and return its path.

    Every row is checked to be of a known shape before anything is written (see `tercet.data.shapes`). An
    existing file is replaced.

    Args:
        rows: objects such as `{"input": ..., "output": ...}` or `{"messages": [...]}`, or texts.
        path: where to; `.jsonl` writes one row a line, `.json` one list.

    Raises:
        ParameterError: `path` ends in something else.
        FormatError: a row is of no known shape, empty, or holds what JSON cannot say.
        TrainingError: there are no rows.
        StorageError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ParameterError(f"{target}: the name of a data set ends in {' or '.join(SUFFIXES)}")
    lines = [_line(row, f"row {number}") for number, row in enumerate(rows, 1)]
    if not lines:
        raise TrainingError(f"there are no rows to write to {target}")
    text = (
        "[\n" + ",\n".join(lines) + "\n]\n" if target.suffix.lower() == ".json" else "\n".join(lines) + "\n"
    )
    with atomic_write(target) as file:
        file.write(text.encode("utf-8"))
    return target


def _line(row: object, place: str) -> str:
    try:
        fields = Row(place, lambda: just(row)).fields()
        recognize(fields)
        line = json.dumps(dict(fields), ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
    except UnusableRowError as error:
        raise FormatError(f"{place}: {error}, so that nothing could be learned from it") from error
    except RowError as error:
        raise FormatError(f"{place}: {error}") from error
    except UnicodeEncodeError as error:
        raise FormatError(f"{place} holds half a surrogate pair, which is no character") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{place} cannot be written as JSON: {error}") from error
    return line
