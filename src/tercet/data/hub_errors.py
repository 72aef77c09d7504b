"""What goes wrong between us and the Hub, in our words: errors of `huggingface_hub` -> those of tercet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tercet.errors import FormatError, HubError, StorageError, TercetError, TrainingError
from tercet.models.hub_client import endpoint, transport_error

__all__ = ["NoSuchDataSetError", "in_our_words", "one_line"]


class NoSuchDataSetError(TrainingError):
    """The Hub has no data set of this name, or does not show it to us."""


@contextlib.contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """Whatever goes wrong in the block with a data set of this name, as an error that tells what to do.

    Raises:
        NoSuchDataSetError: there is none, or none for us.
        HubError: the Hub is away, or the network.
        StorageError: what comes cannot be kept.
        FormatError: what comes makes no sense.
    """
    from huggingface_hub import errors

    try:
        yield
    except TercetError:
        raise
    except errors.GatedRepoError as error:
        raise NoSuchDataSetError(
            f"{name} is gated: accept its terms on its page on the Hub, then set HF_TOKEN or run "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NoSuchDataSetError(f"the data set {name} has no such revision") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise NoSuchDataSetError(
            f"the Hub has no data set {name}, or shows it to others only. Check the name; for a private one "
            "set HF_TOKEN or run `hf auth login`"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(f"{name} has not been fetched before, and HF_HUB_OFFLINE forbids it now") from error
    except errors.LocalEntryNotFoundError as error:
        why = error.__cause__ or error
        if isinstance(why, errors.OfflineModeIsEnabled):
            raise HubError(
                f"not all of {name} has been fetched before, and HF_HUB_OFFLINE forbids it now"
            ) from error
        reason = one_line(why)
        if isinstance(why, errors.HfHubHTTPError):
            reason = f"status {why.response.status_code}"
        raise HubError(
            f"not all of {name} could be fetched ({reason}). What has come is kept; try again later"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise NoSuchDataSetError(
                f"the Hub does not let us have {name} (status {status}): set HF_TOKEN or run `hf auth login`"
            ) from error
        raise HubError(f"the Hub answered with the status {status} for {name}. Try again later") from error
    except (transport_error(), ConnectionError, TimeoutError) as error:
        where = endpoint() or "the Hugging Face Hub"
        raise HubError(
            f"{where} cannot be reached for {name} ({one_line(error)}). Check the connection and try again"
        ) from error
    except OSError as error:
        if error.strerror is None:  # the client's own: a file cut short, or in old releases the network
            raise HubError(f"{name} could not be fetched ({one_line(error)}). Try again") from error
        raise StorageError(f"the files of {name} cannot be kept: {error.strerror.lower()}") from error
    except RuntimeError as error:  # of hf_xet, which fetches large files
        raise HubError(f"{name} could not be fetched ({one_line(error)}). Try again") from error
    except ValueError as error:
        raise FormatError(f"the Hub's answer about {name} makes no sense: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What an error says, or else its name."""
    return " ".join(str(error).split())[:300] or type(error).__name__
