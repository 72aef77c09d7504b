"""Every error that a user of Tercet can cause, and the one tree they live in.

    TercetError                    anything the caller can put right; the command line exits with code 2
    ├── ParameterError             an argument has a value that it cannot have (also a ValueError)
    ├── ContextLengthError         prompt and answer do not fit the model's context (also a ValueError)
    ├── ModelNotFoundError         no model has this name, or nothing is at this path
    ├── FormatError                bytes are not what they claim to be: truncated, malformed, of another kind
    │   ├── ChecksumError          the bytes have changed since they were written
    │   └── UnsupportedFormatError a format, version or tensor type that this release does not read
    ├── UntrustedModelError        nobody whom the settings trust vouches for a model
    ├── UnsupportedModelError      the file is sound, but it holds an architecture that we do not run
    ├── IsaError                   an instruction set was demanded that this processor (or build) lacks
    ├── DeviceError                a GPU was demanded that this machine lacks, or PyTorch cannot use
    ├── MemoryLimitError           a model does not fit into the memory that it may use
    ├── MissingExtraError          an optional dependency is not installed (also an ImportError)
    ├── HubError                   the Hugging Face Hub cannot be reached, or answers with an error
    ├── StorageError               the disk is full, read-only or not ours to write
    ├── OverloadedError            more requests wait than may wait; it says when to try again
    ├── DeadlineError              a request did not finish, or did not begin to answer, within its time
    ├── UnavailableError           a model or the service is loading, draining or out of order
    ├── ForbiddenError             whoever asks may not: the key is not for this model, or not for operators
    ├── SecurityError              the security settings refuse it; `code` is a word in capitals for programs
    │   ├── RateLimitError         too many requests or tokens in a minute, or at one time
    │   ├── InvalidInputError      an input is more than it may be: longer, deeper (also a ValueError)
    │   ├── ContentFilteredError   a prompt holds what the filters keep out
    │   ├── ResponseFilteredError  so does an answer
    │   └── GenerationError        the answer failed for a reason that is not the caller's
    └── TrainingError              training cannot start or go on: no data, diverged, foreign checkpoint

A message says what was asked, what was found and what to do, in that order. An exception outside this tree
is a bug in Tercet: it keeps its traceback, and we want to hear about it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ChecksumError",
    "ContentFilteredError",
    "ContextLengthError",
    "DeadlineError",
    "DeviceError",
    "ForbiddenError",
    "FormatError",
    "GenerationError",
    "HubError",
    "InvalidInputError",
    "IsaError",
    "MemoryLimitError",
    "MissingExtraError",
    "ModelNotFoundError",
    "OverloadedError",
    "ParameterError",
    "RateLimitError",
    "ResponseFilteredError",
    "SecurityError",
    "StorageError",
    "TercetError",
    "TrainingError",
    "UnavailableError",
    "UnsupportedFormatError",
    "UnsupportedModelError",
    "UntrustedModelError",
]


class TercetError(Exception):
    """Something the caller asked for cannot be done, and the message says what to do instead."""

    exit_code: ClassVar[int] = 2


class ParameterError(TercetError, ValueError):
    """An argument has a type or a value that it cannot have."""


class ContextLengthError(TercetError, ValueError):
    """The tokens of a request do not fit into the model's context; both numbers, where they are known."""

    def __init__(
        self, message: str, prompt_tokens: int | None = None, max_context: int | None = None
    ) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.max_context = max_context


class ModelNotFoundError(TercetError):
    """No model is known by this name, and no file or folder is at this path."""


class FormatError(TercetError):
    """Bytes are not what they claim to be: truncated, malformed, or of another kind altogether."""


class ChecksumError(FormatError):
    """Bytes have changed since they were written."""


class UnsupportedFormatError(FormatError):
    """A file is of a format, version or tensor type that this release does not read."""


class UntrustedModelError(TercetError):
    """A model lacks the manifest or the signature that the settings demand, or another key signed it."""


class UnsupportedModelError(TercetError):
    """A sound file holds an architecture, or an option of one, that this release does not run."""


class IsaError(TercetError):
    """An instruction set was demanded that this processor or this build does not have."""


class DeviceError(TercetError):
    """A GPU was demanded that this machine does not have, or that the installed PyTorch cannot use."""


class MemoryLimitError(TercetError):
    """A model does not fit into the memory that it may use."""


class MissingExtraError(TercetError, ImportError):
    """A feature needs an optional dependency that is not installed."""


class HubError(TercetError):
    """The Hugging Face Hub cannot be reached, or answers with an error."""


class StorageError(TercetError):
    """A file cannot be written: the disk is full, read-only, or not ours to write."""


class OverloadedError(TercetError):
    """As many requests, or tokens, wait as may wait; `retry_after_seconds` says when there may be room."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(TercetError):
    """A request did not finish, or its first token did not come, within the time that it had."""


class UnavailableError(TercetError):
    """A model or the service cannot take requests now: it is loading, draining or out of order."""


class ForbiddenError(TercetError):
    """Whoever asks may not have it: an API key is for other models, or not for operators."""


class SecurityError(TercetError):
    """The settings of `tercet.security` refuse a request; `code` says by which rule."""

    code: ClassVar[str] = "INVALID_INPUT"


class RateLimitError(SecurityError):
    """A client has used what it may use for now; `retry_after` is in seconds, at most 60."""

    code = "RATE_LIMIT_EXCEEDED"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, min(retry_after, 60))


class InvalidInputError(SecurityError, ValueError):
    """An input is more than the limits allow, or no clean text; `param` is the field, where there is one."""

    code = "INVALID_INPUT"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ContentFilteredError(SecurityError):
    """A prompt was refused by the content filters; `param` is the field, where there is one."""

    code = "CONTENT_FILTERED"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ResponseFilteredError(SecurityError):
    """An answer was withheld by the content filters."""

    code = "RESPONSE_FILTERED"


class GenerationError(SecurityError):
    """The answer failed inside, and the caller can do nothing about it."""

    code = "GENERATION_ERROR"


class TrainingError(TercetError):
    """Training cannot start or cannot go on."""
