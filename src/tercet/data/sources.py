"""What a person names as data -> rows with their places.

    alpaca.jsonl                a file (see `files`)
    data/                       a folder of them, or one that `datasets` saved
    data/*.parquet              a pattern
    organization/name           a data set on the Hub
    [{"prompt": ...}, ...]      rows in memory; also a data set of `datasets`, or a table of pandas
    ["a.jsonl", "b.csv"]        several, one after the other

A name that could be one on the Hub (ORGANIZATION/NAME without the ending of a data file) is asked for there
first, and taken for a folder if the Hub has no such data set or cannot be reached. Begin with `./` to name a
folder without asking.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Union

from tercet.data.files import is_data_file, read_file
from tercet.data.hub import is_hub_name, load_from_hub
from tercet.data.hub_errors import NoSuchDataSetError
from tercet.data.rows import Row, just
from tercet.data.tables import load_saved
from tercet.errors import HubError, ParameterError, TrainingError

__all__ = ["Rows", "Source", "open_source"]

Source = Union[str, "os.PathLike[str]", Iterable[Any]]
"""A path, a pattern, a name on the Hub, rows, or a list of paths and names."""
_HELD_OUT = ("valid", "dev", "eval", "test")
"""How the names of files begin that are not for training."""
_SAVED = ("state.json", "dataset_dict.json")


@dataclass(frozen=True)
class Rows:
    """Rows, and what to call them."""

    name: str
    rows: Iterator[Row]


def open_source(source: Source, subset: str | None = None, split: str = "train") -> Rows:
    """Open a data set.

    Args:
        source: what is named.
        subset: which configuration of a data set on the Hub.
        split: which of its splits.

    Raises:
        TrainingError: there is no such file, folder or data set.
        ParameterError: it is none of these, or has no such split.
        HubError, FormatError, StorageError, MissingExtraError: it cannot be had.
    """
    if isinstance(source, os.PathLike):
        path = Path(source)
        return Rows(str(path), _local(path, split))
    if isinstance(source, str):
        return Rows(source, _named(source, subset, split))
    if isinstance(source, Mapping):  # DatasetDict
        if split not in source:
            raise ParameterError(f"the data has no split {split!r}; it has {', '.join(map(str, source))}")
        source = source[split]
    if (table := getattr(source, "to_dict", None)) is not None and hasattr(source, "itertuples"):
        return Rows("the given rows", _given(table("records")))  # pandas
    if not isinstance(source, Iterable):
        raise ParameterError(f"data must be a path, a name or rows, not a {type(source).__name__}")
    if isinstance(source, Sequence) and source and all(isinstance(s, (str, os.PathLike)) for s in source):
        parts = [open_source(part, subset, split) for part in source]
        return Rows(", ".join(part.name for part in parts), chain.from_iterable(p.rows for p in parts))
    return Rows("the given rows", _given(source))


def _given(rows: Iterable[Any]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield Row(f"row {number}", partial(just, row))


def _named(text: str, subset: str | None, split: str) -> Iterator[Row]:
    path = Path(text).expanduser()
    is_there = os.path.exists(path)  # noqa: PTH110 (never raises, unlike Path's)
    if is_data_file(path) or not is_hub_name(text) or (is_there and "/" not in text):
        if not is_there and (matches := sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
            return chain.from_iterable(read_file(Path(match)) for match in matches)
        return _local(path, split)
    try:
        return load_from_hub(text, subset, split)
    except (NoSuchDataSetError, HubError) as error:
        if is_there:
            return _local(path, split)
        if isinstance(error, NoSuchDataSetError):
            raise TrainingError(f"{error}. Nor is there a file or folder {text}") from error
        raise


def _local(path: Path, split: str) -> Iterator[Row]:
    if not os.path.exists(path):  # noqa: PTH110
        raise TrainingError(f"there is no data file or folder {path}")
    if not path.is_dir():
        return read_file(path)
    if any((path / name).is_file() for name in _SAVED):
        return load_saved(str(path), split)
    files = sorted(file for file in path.rglob("*") if file.is_file() and is_data_file(file))
    named = [file for file in files if file.name.lower().startswith(split.lower())]
    chosen = named or [file for file in files if not file.name.lower().startswith(_HELD_OUT)]
    if not chosen:
        raise TrainingError(f"the folder {path} holds no files of rows (.jsonl, .json, .csv, .parquet, .txt)")
    return chain.from_iterable(read_file(file) for file in chosen)
