"""Models that were pulled from the Hub, as they lie in the cache folder.

    models/ORGANIZATION/NAME/
        main.json                     what was pulled of this revision; written last, so that it is complete
        main--model-i2_s.gguf.json    the same, where one file of several was asked for
        4ac2e1f.../                   the files of one commit, by their paths in the repository
        4ac2e1f.../config.json.part   a file on its way
        4ac2e1f....pulling            the commit is not complete yet; a later pull goes on with it

What no `.json` here lists is not there: half a download is never taken for a model.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from tercet.environment import atomic_write, cache_directory
from tercet.errors import FormatError, ModelNotFoundError, ParameterError, StorageError
from tercet.formats.fields import Fields, parse_json
from tercet.formats.mapped_file import read_bytes
from tercet.models.hub_names import ALIASES, MAIN, HubName, hub_name, is_safe_path

__all__ = [
    "Download",
    "DownloadedFile",
    "advice",
    "downloads",
    "find_download",
    "forget",
    "incomplete_downloads",
    "record",
    "repository_directory",
    "repository_lock",
    "start",
]

PULLING = ".pulling"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class DownloadedFile:
    """One file: where it is in the repository, and which bytes it holds."""

    path: str
    num_bytes: int
    oid: str
    """What the Hub identifies the content by: SHA-256, or the Git object id of a small file."""


@dataclass(frozen=True)
class Download:
    """A model that was pulled completely."""

    repository: str
    revision: str
    commit: str
    file: str | None
    """The one file that is the model (GGUF); None if it is the folder."""
    files: tuple[DownloadedFile, ...]

    @property
    def name(self) -> str:
        """By which it can be asked for."""
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return self.repository + revision + ("" if self.file is None else f":{self.file}")

    @property
    def path(self) -> Path:
        """The file or folder of the model."""
        folder = repository_directory(self.repository) / self.commit
        return folder if self.file is None else folder / self.file

    @property
    def num_bytes(self) -> int:
        """How much it takes on the disk."""
        return sum(file.num_bytes for file in self.files)


def repository_directory(repository: str) -> Path:
    """Return the folder of a repository in the cache; it need not exist."""
    return cache_directory() / "models" / repository


def downloads() -> list[Download]:
    """Return all models that were pulled, by name.

    Raises:
        FormatError: a record in the cache is damaged.
    """
    records = sorted((cache_directory() / "models").glob("*/*/*.json"))
    return sorted((_read(path) for path in records), key=lambda download: download.name.lower())


def find_download(text: str) -> Download | None:
    """Return the pulled model of a name or alias; of several that it fits, the one pulled last."""
    name = hub_name(text)
    if name is None:
        return None
    fitting = [download for download in downloads() if _fits(download, name)]
    return max(fitting, key=lambda download: _record_path(download).stat().st_mtime, default=None)


def advice(text: str) -> str | None:
    """Return what to do about a name that is known, or can be on the Hub, but is not on this machine."""
    name = hub_name(text)
    if name is None:
        return None
    where = f"{text} is {name.repository}, which" if text.lower() in ALIASES else "this"
    return f"{where} has not been pulled to this machine. Get it with: tercet pull {text}"


def start(repository: str, commit: str) -> Path:
    """Return the folder for the files of a commit, marked as incomplete until `record` is called.

    Raises:
        FormatError: `commit` is no id of a commit.
        StorageError: the cache cannot be written.
    """
    if not _COMMIT.fullmatch(commit):
        raise FormatError(f"the Hub names the commit {commit[:80]!r}, expected hexadecimal digits")
    folder = repository_directory(repository) / commit
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.with_name(commit + PULLING).touch()
    except OSError as error:
        raise _not_writable(folder, error) from error
    return folder


def record(download: Download) -> None:
    """Enter a model whose files are all in place, and delete what no record needs any more.

    Raises:
        StorageError: the cache cannot be written.
    """
    with atomic_write(_record_path(download)) as file:
        file.write(json.dumps(asdict(download), indent=2).encode("utf-8"))
    repository = repository_directory(download.repository)
    try:
        (repository / (download.commit + PULLING)).unlink(missing_ok=True)
        _sweep(repository)
    except OSError as error:
        raise _not_writable(repository, error) from error


@contextlib.contextmanager
def repository_lock(repository: str) -> Iterator[None]:
    """Keep other processes from pulling or deleting the same repository meanwhile.

    Raises:
        StorageError: one of them is at it, or the cache cannot be written.
    """
    path = cache_directory() / "models" / ".locks" / (repository.replace("/", "--").lower() + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise _not_writable(path, error) from error
    with file:
        try:
            _lock(file)
        except OSError as error:
            raise StorageError(
                f"another tercet is pulling or deleting {repository}. Wait until it has finished."
            ) from error
        yield  # closing the file gives the lock back, as does the end of the process


def forget(text: str) -> list[Download]:
    """Delete the pulled models that a name fits, and what was begun of the repository; return the former.

    Raises:
        ParameterError: it is no name.
        ModelNotFoundError: nothing of this name has been pulled.
        StorageError: it cannot be deleted.
    """
    name = hub_name(text)
    if name is None:
        raise ParameterError(f"{text!r} is no name of a pulled model; `tercet list` shows them")
    fitting = [download for download in downloads() if _fits(download, name)]
    begun = [path for path in incomplete_downloads() if _repository_of(path) == name.repository.lower()]
    if not fitting and not begun:
        raise ModelNotFoundError(f"{text} has not been pulled; `tercet list` shows what has been")
    folders = {repository_directory(download.repository) for download in fitting} | {p.parent for p in begun}
    with repository_lock(name.repository):
        try:
            for download in fitting:
                _record_path(download).unlink()  # first, so that nothing half deleted counts as a model
            for path in begun:
                path.with_name(path.name + PULLING).unlink()
            for folder in folders:
                _sweep(folder)
        except OSError as error:
            raise StorageError(f"cannot delete {text}: {(error.strerror or str(error)).lower()}") from error
    return fitting


def incomplete_downloads() -> list[Path]:
    """Return the folders of commits whose download was interrupted, or is going on."""
    markers = sorted((cache_directory() / "models").glob(f"*/*/*{PULLING}"))
    return [path.with_name(path.name.removesuffix(PULLING)) for path in markers]


def _repository_of(commit_folder: Path) -> str:
    return "/".join(commit_folder.parts[-3:-1]).lower()


def _fits(download: Download, name: HubName) -> bool:
    return (
        download.repository.lower() == name.repository.lower()
        and name.revision in (None, download.revision, download.commit)
        and name.file in (None, download.file)
    )


def _record_path(download: Download) -> Path:
    parts = [download.revision] + ([] if download.file is None else [download.file])
    slug = "--".join(re.sub(r"[^\w.-]", "--", part) for part in parts)
    return repository_directory(download.repository) / f"{slug}.json"


def _read(path: Path) -> Download:
    fields = Fields(parse_json(read_bytes(path), path, "the record"), path, "record")
    files = tuple(
        DownloadedFile(file.text("path"), file.integer("num_bytes"), file.text("oid"))
        for file in fields.objects_of_list("files")
    )
    file = fields.text("file") if "file" in fields else None
    download = Download(
        fields.text("repository"), fields.text("revision"), fields.text("commit"), file, files
    )
    safe = all(is_safe_path(part) for part in (file or "x", *(f.path for f in files)))
    if (
        not safe
        or not _COMMIT.fullmatch(download.commit)
        or download.repository != "/".join(path.parts[-3:-1])
    ):
        raise FormatError(f"{path} is damaged: delete it and pull the model again")
    return download


def _sweep(repository: Path) -> None:
    """Delete the folders of commits that no record names and no pull is to go on with, and empty folders."""
    wanted = {_read(path).commit for path in repository.glob("*.json")}
    wanted |= {path.name.removesuffix(PULLING) for path in repository.glob(f"*{PULLING}")}
    for folder in [path for path in repository.iterdir() if path.is_dir() and path.name not in wanted]:
        shutil.rmtree(folder)
    for folder in (repository, repository.parent):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _lock(file: BinaryIO) -> None:
    """Take the lock of an open file or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _not_writable(path: Path, error: OSError) -> StorageError:
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"cannot write {path}: {reason}. Set TERCET_CACHE to a folder that you may write to.")
