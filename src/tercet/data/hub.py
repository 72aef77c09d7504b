"""Data sets on the Hugging Face Hub: which files they have, fetched by `huggingface_hub`, and their rows.

    rajpurkar/squad                        a name: ORGANIZATION/NAME, for a few old ones NAME
    rajpurkar/squad@refs/convert/parquet   the same at a branch, tag or commit

Files lie in the cache that all programs share (HF_HOME); HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count.
Which files a revision has is kept in our own cache folder (`data/`), so that a data set that was fetched can
be read where the Hub cannot be reached, and half a data set is never taken for a whole one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from logging import CRITICAL
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tercet.data.files import SUFFIXES, read_file
from tercet.data.hub_errors import NoSuchDataSetError, in_our_words, one_line
from tercet.data.hub_files import CONVERTED, data_files, files_of_split
from tercet.data.rows import Row
from tercet.environment import atomic_write, cache_directory
from tercet.errors import FormatError, ParameterError, TrainingError
from tercet.models.hub_client import endpoint, transport_error
from tercet.models.hub_names import is_safe_path

__all__ = ["is_hub_name", "load_from_hub"]

_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"(?P<name>{_PART}(?:/{_PART})?)(?:@(?P<revision>[\w./-]{{1,100}}))?", re.ASCII)
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class _Listing:
    """The files of a revision.

    Raises:
        TypeError: these are none.
    """

    commit: str
    files: list[str]

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.commit, *self.files)):
            raise TypeError


def is_hub_name(text: str) -> bool:
    """Whether a data set on the Hub could be called so."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def load_from_hub(text: str, subset: str | None, split: str) -> Iterator[Row]:
    """Load a split of a data set on the Hub, fetching what is not on this machine yet.

    Raises:
        NoSuchDataSetError: there is none of this name, or none with rows.
        ParameterError: it has no such subset or split, or several subsets and none is named.
        HubError: the Hub cannot be reached, and it has not been fetched before.
        FormatError: the Hub's answer or the card makes no sense.
        StorageError: what comes cannot be kept.
        TrainingError: it is a program that makes the data.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ParameterError(f"{text!r} is no name of a data set on the Hub")
    name, revision = match["name"], match["revision"] or "main"
    with in_our_words(text), _quiet():
        listing = _listing(name, revision)
        if f"{name.rpartition('/')[2]}.py" in listing.files:
            raise TrainingError(
                f"{text} is a program that makes the data, and is not run. Take a version with files: "
                f"many have one as {name}@{CONVERTED}"
            )
        files = data_files(listing.files)
        if not files:
            raise NoSuchDataSetError(f"{text} holds no files of rows ({', '.join(SUFFIXES)})")
        card = _card(name, listing)
        chosen = files_of_split(text, files, card, subset, split, converted=revision == CONVERTED)
        if unsafe := [file for file in chosen if not is_safe_path(file)]:
            raise FormatError(f"{text} has a file whose name not every system can have: {unsafe[0]!r}")
        paths = [_fetch(name, listing.commit, file) for file in chosen]
    parts = (read_file(path, f"{name}/{file}") for path, file in zip(paths, chosen, strict=True))
    return chain.from_iterable(parts)


def _listing(name: str, revision: str) -> _Listing:
    """Ask for the files of a revision; where the Hub cannot be asked, what it said before counts."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    kept = cache_directory() / "data" / name / f"{quote(revision, safe='')}.json"
    try:
        info = HfApi(endpoint=endpoint()).dataset_info(name, revision=revision, timeout=_TIMEOUT_SECONDS)
        listing = _Listing(info.sha or "", [sibling.rfilename for sibling in info.siblings or ()])
    except HfHubHTTPError as error:
        if error.response.status_code < 500 or not kept.is_file():
            raise
        return _read(kept)
    except (transport_error(), OSError):
        if not kept.is_file():
            raise
        return _read(kept)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"the Hub's answer about {name} is not a listing of files") from error
    if not listing.commit:
        raise FormatError(f"the Hub's answer about {name} names no commit")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as out:
        out.write(json.dumps(asdict(listing)).encode())
    return listing


def _read(kept: Path) -> _Listing:
    try:
        return _Listing(**json.loads(kept.read_bytes()))
    except (TypeError, ValueError) as error:
        raise FormatError(f"{kept} is damaged; remove it") from error


def _card(name: str, listing: _Listing) -> dict[str, Any]:
    from huggingface_hub import metadata_load

    if "README.md" not in listing.files:
        return {}
    path = _fetch(name, listing.commit, "README.md")
    try:
        return metadata_load(path) or {}
    except Exception as error:  # those of its YAML reader are not ours to import
        raise FormatError(f"the card (README.md) of {name} cannot be read: {one_line(error)}") from error


def _fetch(name: str, commit: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, file, repo_type="dataset", revision=commit, endpoint=endpoint()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings, which would draw over our own line."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    bars, verbosity = are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not bars:
            enable_progress_bars()
