"""Parquet files, and data sets of the library `datasets`, -> rows.

Both libraries come with `pip install 'tercet[finetune]'`; nothing else here needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from tercet.data.rows import Row
from tercet.environment import optional_import
from tercet.errors import FormatError, ParameterError

__all__ = ["load_saved", "read_parquet", "read_table"]

_BATCH = 1000


def read_parquet(file: BinaryIO, name: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file, a batch of them in memory at a time.

    Raises:
        FormatError: it is no Parquet file, or damaged.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = optional_import("pyarrow.parquet", "finetune")
    arrow_error = optional_import("pyarrow", "finetune").ArrowException
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(_BATCH):
            for index in range(batch.num_rows):
                number += 1
                yield Row(f"{name}, row {number}", partial(_row, batch, index))
    except arrow_error as error:
        raise FormatError(f"{name} is no whole Parquet file: {_one_line(error)}") from error


def load_saved(folder: str, split: str) -> Iterator[Row]:
    """Load a data set that `save_to_disk` of the library wrote.

    Raises:
        ParameterError: it has no such split.
        FormatError: its files cannot be read.
        MissingExtraError: the library is not installed.
    """
    datasets = optional_import("datasets", "finetune")
    try:
        table = datasets.load_from_disk(folder)
    except (OSError, ValueError, LookupError, TypeError) as error:  # those of Arrow are among them
        raise FormatError(f"{folder} is no whole data set of `datasets`: {_one_line(error)}") from error
    if isinstance(table, datasets.DatasetDict):
        if split not in table:
            raise ParameterError(f"{folder} has no split {split!r}; it has {', '.join(table)}")
        table = table[split]
    return read_table(table, folder)


def read_table(table: Any, name: str) -> Iterator[Row]:
    """Yield the rows of a data set of `datasets`, each read from its memory map when it is used."""
    for number in range(len(table)):
        yield Row(f"{name}, row {number + 1}", partial(table.__getitem__, number))


def _row(batch: Any, index: int) -> object:
    return batch.slice(index, 1).to_pylist()[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
