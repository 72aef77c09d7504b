"""The Hugging Face Hub as we use it: one question, one address, and its errors in our words.

Everything goes through the package `huggingface_hub`, which knows tokens, proxies and redirections. It takes
a while to import, so that this happens only when the Hub is asked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tercet.conversion.hub_selection import RemoteFile
from tercet.errors import FormatError, HubError, ModelNotFoundError, TercetError
from tercet.models.hub_client import endpoint, transport_error

__all__ = [
    "Listing",
    "file_url",
    "hub_errors",
    "is_offline",
    "list_repository",
    "request_headers",
]

_YES = {"1", "on", "yes", "true"}


@dataclass(frozen=True)
class Listing:
    """What a revision of a repository consists of."""

    repository: str
    """As the Hub spells it."""
    commit: str
    files: tuple[RemoteFile, ...]


def is_offline() -> bool:
    """Whether the environment forbids to ask the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES


def file_url(repository: str, commit: str, path: str) -> str:
    """Return where a file is."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, path, revision=commit, endpoint=endpoint())


def request_headers() -> Mapping[str, str]:
    """Return the headers of a request, the access token among them if there is one."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return cast("Mapping[str, str]", build_hf_headers())


def list_repository(repository: str, revision: str) -> Listing:
    """Ask the Hub for the files of a revision, with their sizes and ids.

    Raises:
        ModelNotFoundError: it has no such thing, or does not show it to us.
        FormatError: its answer lacks something.
        HubError: it cannot be reached, or answers with an error.
    """
    from huggingface_hub import HfApi

    with hub_errors(repository, revision, "when it was asked for the files"):
        try:
            info = HfApi(endpoint=endpoint()).model_info(repository, revision=revision, files_metadata=True)
        except (LookupError, TypeError, AttributeError, RecursionError) as error:
            # The library trusts the form of the answer.
            raise FormatError(
                f"the Hub's answer about {repository} is not a listing of files ({_one_line(error)})"
            ) from error
    files = [_remote_file(sibling, repository) for sibling in info.siblings or []]
    if not isinstance(info.sha, str) or not info.sha:
        raise FormatError(f"the Hub does not say which commit {revision} of {repository} is")
    named = isinstance(info.id, str) and info.id.lower() == repository.lower()
    return Listing(info.id if named else repository, info.sha, tuple(files))


def _remote_file(sibling: Any, repository: str) -> RemoteFile:
    """Check what the answer says of a file; the library passes on whatever it finds there."""
    oid = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    if not isinstance(sibling.rfilename, str):
        raise FormatError(f"the Hub says that {repository} holds a file named {str(sibling.rfilename)[:80]}")
    if type(sibling.size) is not int or sibling.size < 0 or not isinstance(oid, str):
        raise FormatError(f"the Hub does not say how large {sibling.rfilename[:80]!r} of {repository} is")
    return RemoteFile(sibling.rfilename, sibling.size, oid.lower())


@contextlib.contextmanager
def hub_errors(repository: str, revision: str, when: str) -> Iterator[None]:
    """Turn what can go wrong with the Hub inside the block into errors of ours.

    Args:
        repository: what is asked for.
        revision: which revision of it.
        when: what was going on, for messages.
    """
    from huggingface_hub import errors

    try:
        yield
    except TercetError:
        raise
    except errors.GatedRepoError as error:
        raise ModelNotFoundError(
            f"{repository} is gated: accept its terms on its page on the Hub, then set HF_TOKEN or run "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{repository} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"the Hub has no model {repository}, or shows it to others only. Check the name; for a private "
            "one set HF_TOKEN or run `hf auth login`."
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(repository, when, error.response.status_code) from error
    except (transport_error(), OSError) as error:
        where = endpoint() or "the Hugging Face Hub"
        raise HubError(
            f"{where} cannot be reached {when} ({_one_line(error)}). Check the connection and run the same "
            "command again; what has come stays, and it goes on from there."
        ) from error
    except ValueError as error:  # an answer that is no JSON, or not of the form that the library knows
        raise HubError(f"{repository}: the Hub's answer {when} makes no sense: {_one_line(error)}") from error


def _refused(repository: str, when: str, status: int) -> TercetError:
    if status in (401, 403):
        return ModelNotFoundError(
            f"the Hub does not let us have {repository} (status {status}): it is private or gated. Set "
            "HF_TOKEN or run `hf auth login`."
        )
    if status == 404:
        return ModelNotFoundError(f"the Hub has no such file of {repository} (status 404 {when})")
    return HubError(f"the Hub answered with the status {status} {when} of {repository}. Try again later.")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
