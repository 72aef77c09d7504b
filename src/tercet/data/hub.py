"""Data sets on the Hugging Face Hub, through the library `datasets`, and its errors in our words.

    rajpurkar/squad              a name: ORGANIZATION/NAME, for a few old ones NAME
    rajpurkar/squad@refs/pr/1    the same at a branch, tag or commit

The library keeps what it has fetched in its own cache (HF_HOME) and knows HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE. It runs no code that comes with a data set.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from tercet.data.rows import Row
from tercet.data.tables import read_table
from tercet.environment import optional_import
from tercet.errors import FormatError, HubError, ParameterError, TercetError, TrainingError

__all__ = ["NoSuchDataSetError", "is_hub_name", "load_from_folder", "load_from_hub"]

_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"(?P<name>{_PART}(?:/{_PART})?)(?:@(?P<revision>[\w./-]{{1,100}}))?", re.ASCII)


class NoSuchDataSetError(TrainingError):
    """The Hub has no data set of this name, or does not show it to us."""


def is_hub_name(text: str) -> bool:
    """Whether a data set on the Hub could be called so."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def load_from_hub(text: str, subset: str | None, split: str) -> Iterator[Row]:
    """Load a split of a data set on the Hub, fetching what is not on this machine yet.

    Raises:
        NoSuchDataSetError: there is none of this name.
        ParameterError: it has no such subset or split, or several subsets and none is named.
        HubError: the Hub cannot be reached.
        FormatError: its files cannot be read.
        MissingExtraError: the library is not installed.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ParameterError(f"{text!r} is no name of a data set on the Hub")
    datasets = optional_import("datasets", "finetune")
    with _errors(text, datasets), _quiet(datasets):
        table = datasets.load_dataset(match["name"], subset, split=split, revision=match["revision"])
    return read_table(table, text)


def load_from_folder(folder: str, split: str) -> Iterator[Row]:
    """Load a data set that `save_to_disk` of the library wrote.

    Raises:
        ParameterError: it has no such split.
        FormatError: its files cannot be read.
        MissingExtraError: the library is not installed.
    """
    datasets = optional_import("datasets", "finetune")
    with _errors(folder, datasets), _quiet(datasets):
        table = datasets.load_from_disk(folder)
    if isinstance(table, datasets.DatasetDict):
        if split not in table:
            raise ParameterError(f"{folder} has no split {split!r}; it has {', '.join(table)}")
        table = table[split]
    return read_table(table, folder)


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without progress bars, which would draw over our own line."""
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _errors(name: str, datasets: Any) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    ours = datasets.exceptions
    below_http: type[Exception] = HfHubHTTPError.__mro__[1]  # depends on the release of the client
    try:
        yield
    except TercetError:
        raise
    except ours.DatasetNotFoundError as error:
        gated = "gated" in str(error)
        raise NoSuchDataSetError(
            f"{name} is gated: accept its terms on its page on the Hub, then set HF_TOKEN or run "
            "`hf auth login`"
            if gated
            else f"the Hub has no data set {name}, or shows it to others only. Check the name; for a private "
            "one set HF_TOKEN or run `hf auth login`"
        ) from error
    except (ours.DataFilesNotFoundError, FileNotFoundError) as error:
        raise NoSuchDataSetError(f"{name} holds no files of rows: {_one_line(error)}") from error
    except (ours.DatasetGenerationError, ours.DatasetBuildError) as error:
        cause = error.__cause__ or error
        raise FormatError(f"the files of {name} cannot be read: {_one_line(cause)}") from error
    except (below_http, ConnectionError, TimeoutError) as error:
        raise HubError(
            f"the Hub cannot be reached for {name} ({_one_line(error)}). Check the connection and try again"
        ) from error
    except RuntimeError as error:
        if "script" not in str(error).lower():
            raise
        raise TrainingError(
            f"{name} is a program that makes the data, and is not run. Take a version with files: many have "
            f"one as {name}@refs/convert/parquet"
        ) from error
    except ValueError as error:
        raise ParameterError(f"{name}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
