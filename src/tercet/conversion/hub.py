"""Models from the Hugging Face Hub into the cache: what `tercet pull` does.

    plan = plan_pull("bitnet-2b")       # asks the Hub which files there are, chooses, downloads nothing
    download = pull(plan)               # goes on where an interrupted pull stopped, checks sizes and hashes
    download.path                       # the folder or file; `load_model` opens it, and so does its name

The address is that of HF_ENDPOINT, the token that of HF_TOKEN or `hf auth login`. With HF_HUB_OFFLINE=1
nothing is asked, and only what was pulled before is there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tercet.conversion.file_download import download_file, matches
from tercet.conversion.hub_api import (
    file_url,
    hub_errors,
    is_offline,
    list_repository,
    request_headers,
)
from tercet.conversion.hub_selection import RemoteFile, Selection, select_files
from tercet.errors import ModelNotFoundError, ParameterError, StorageError
from tercet.models.downloads import (
    Download,
    DownloadedFile,
    downloads,
    find_download,
    record,
    repository_directory,
    repository_lock,
    start,
)
from tercet.models.hub_names import ALIASES, MAIN, PART, HubName, hub_name

__all__ = ["ASK_ABOVE_BYTES", "PullPlan", "PullProgress", "plan_pull", "pull"]

ASK_ABOVE_BYTES = 10 * 10**9
"""From here on people are asked before a download begins."""


@dataclass(frozen=True)
class PullProgress:
    """How far a pull has come."""

    file: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class PullPlan:
    """What is to be downloaded, and how much of it is there."""

    repository: str
    revision: str
    commit: str
    selection: Selection
    missing_bytes: int
    """What is still to come."""

    @property
    def download(self) -> Download:
        """The record of the model when all of it is there."""
        files = tuple(DownloadedFile(f.path, f.num_bytes, f.oid) for f in self.selection.files)
        return Download(self.repository, self.revision, self.commit, self.selection.file, files)

    def __str__(self) -> str:
        count = len(self.selection.files)
        largest = max(self.selection.files, key=lambda file: file.num_bytes)
        what = largest.path if count == 1 else f"{count} files, the largest {largest.path}"
        size, missing = _gigabytes(self.selection.num_bytes), _gigabytes(self.missing_bytes)
        rest = "all of it here" if self.missing_bytes == 0 else f"{missing} to download"
        return f"{self.download.name} ({self.commit[:8]}): {what}, {size}, {rest}"


def plan_pull(model: str, file: str | None = None, revision: str | None = None) -> PullPlan:
    """Ask the Hub what a model consists of.

    Args:
        model: `ORGANIZATION/NAME`, or one of the short names of `tercet.models.hub_names`.
        file: the file to take, if the repository holds several models.
        revision: a branch, tag or commit; by default the main branch.

    Raises:
        ParameterError: that is no name.
        ModelNotFoundError: the Hub has no such model, revision or file, or shows it to others only.
        UnsupportedFormatError: it holds only what we do not read.
        HubError: the Hub cannot be reached, or we are offline and the model is not in the cache.
    """
    name = _name(model, file, revision)
    if is_offline():
        return _offline_plan(model, name)
    wanted_revision = name.revision or MAIN
    listing = list_repository(name.repository, wanted_revision)
    selection = select_files(listing.files, listing.repository, name.file)
    folder = repository_directory(listing.repository) / listing.commit
    missing = sum(_missing_bytes(folder / file.path, file) for file in selection.files)
    return PullPlan(listing.repository, wanted_revision, listing.commit, selection, missing)


def pull(plan: PullPlan, progress: Callable[[PullProgress], None] = lambda progress: None) -> Download:
    """Download what a plan says. A model appears complete and checked, or not at all.

    If it raises, or the process ends, what has come stays: the next `pull` goes on from there.

    Raises:
        ChecksumError, FormatError: a file is not what the Hub says it is.
        StorageError: the cache cannot be written, or another process is at it.
        HubError: the connection was lost.
    """
    download = plan.download
    with repository_lock(plan.repository):
        if plan.missing_bytes == 0 and download in downloads():
            return download
        folder = start(plan.repository, plan.commit)
        _check_space(folder, plan.missing_bytes)
        known = _files_by_id(plan.repository)
        total, done = plan.selection.num_bytes, 0
        for file in plan.selection.files:
            before = done

            def tell(num_bytes: int, file: RemoteFile = file, before: int = before) -> None:
                progress(PullProgress(file.path, before + num_bytes, total))

            _fetch(plan, file, folder / file.path, known, tell)
            done += file.num_bytes
        record(download)
    return download


def _fetch(
    plan: PullPlan, file: RemoteFile, target: Path, known: dict[str, Path], tell: Callable[[int], None]
) -> None:
    """Bring one file to its place, from another commit in the cache if it has not changed."""
    if _is_there(target, file):
        tell(file.num_bytes)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.oid in known and _copied(known[file.oid], target, file):
        tell(file.num_bytes)
        return
    with hub_errors(plan.repository, plan.revision, f"while {file.path} was downloaded"):
        download_file(
            file, file_url(plan.repository, plan.commit, file.path), target, request_headers(), tell
        )


def _is_there(path: Path, file: RemoteFile) -> bool:
    """Whether a file has its place already: it got its name only after its content was checked."""
    return path.is_file() and path.stat().st_size == file.num_bytes


def _missing_bytes(path: Path, file: RemoteFile) -> int:
    if _is_there(path, file):
        return 0
    partial = path.with_name(path.name + PART)
    return max(file.num_bytes - (partial.stat().st_size if partial.is_file() else 0), 0)


def _copied(source: Path, target: Path, file: RemoteFile) -> bool:
    temporary = target.with_name(target.name + ".copy")
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)
        if not matches(temporary, file):
            return False
        temporary.replace(target)
        return True
    except OSError:
        return False  # then it is downloaded
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _files_by_id(repository: str) -> dict[str, Path]:
    folder = repository_directory(repository)
    mine = [download for download in downloads() if download.repository == repository]
    return {file.oid: folder / download.commit / file.path for download in mine for file in download.files}


def _name(model: str, file: str | None, revision: str | None) -> HubName:
    name = hub_name(model)
    if name is None:
        short = ", ".join(list(ALIASES)[:4])
        raise ParameterError(
            f"{model[:100]!r} is no name of a model on the Hub. Give ORGANIZATION/NAME, or a short name: "
            f"{short}, ... (`tercet list --known` shows them all)."
        )
    chosen = HubName(name.repository, revision or name.revision, file or name.file)
    if hub_name(chosen.repository + f"@{chosen.revision or MAIN}" + f":{chosen.file or 'x'}") is None:
        raise ParameterError(f"the revision {revision!r} or the file {file!r} cannot be a name of one")
    return chosen


def _offline_plan(model: str, name: HubName) -> PullPlan:
    revision, file = name.revision or "", name.file or ""
    found = find_download(name.repository + f"@{revision}" * bool(revision) + f":{file}" * bool(file))
    if found is None:
        raise ModelNotFoundError(
            f"{model} has not been pulled, and HF_HUB_OFFLINE is set, so that nothing is downloaded. "
            "Unset it, or give the path of a model."
        )
    files = tuple(RemoteFile(f.path, f.num_bytes, f.oid) for f in found.files)
    return PullPlan(found.repository, found.revision, found.commit, Selection(files, found.file), 0)


def _check_space(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise StorageError(
            f"the download takes {_gigabytes(num_bytes)}, but {folder} has room for {_gigabytes(free)}. "
            "Free some space, or set TERCET_CACHE to another folder."
        )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 10**7 else f"{num_bytes / 1e6:.2f} MB"
