"""What a caller asks for, whichever protocol or program it came through."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.errors import ParameterError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.params import SamplingParams
from tercet.tokenization.chat_template import Message

__all__ = ["GenerationRequest", "new_request_id"]


def new_request_id() -> str:
    """Return an identifier that nobody else has: 96 random bits."""
    return f"req_{secrets.token_hex(12)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerationRequest:
    """One prompt or one conversation, and how to answer it. Times count from its submission.

    Raises:
        ParameterError: there is neither a prompt nor a conversation, or there are both; or a time is not
            positive.
    """

    id: str = field(default_factory=new_request_id)
    """Comes back with the answer and stands in the log; need not be unique."""
    prompt: str | Sequence[int] | None = None
    """Text (the model's begin-of-text token is put before it), or token ids, taken as they are."""
    messages: Sequence[Message] | None = None
    """A conversation, to be written by the model's chat template."""
    tools: Sequence[Mapping[str, Any]] | None = None
    """Functions that the model may ask to be called."""
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool = True
    params: SamplingParams = field(default_factory=SamplingParams)
    """Fields that are not named here are as the model came with them."""
    constraint: ConstraintSpec | None = None
    """What the answer must look like; None for any text."""
    adapters: Mapping[str, float] | None = None
    """Adapters of the model and the factor of each. None: the one that `model` names, or else the model's
    defaults."""
    priority: int = 0
    """Lower runs first."""
    tenant: str = ""
    """Whose request it is: tenants that wait are served in turn."""
    cache_salt: bytes = b""
    """Only requests with the same one share anything that is kept: prefixes and whole responses."""
    timeout_seconds: float | None = None
    """For the whole request; None takes the service's."""
    first_token_timeout_seconds: float | None = None
    """For the beginning of the answer; None takes the service's."""
    stream: bool = False
    """Whether the caller reads pieces; it changes no token."""
    use_cache: bool = True
    """Whether a response that the service remembers may be given."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own, given back and never looked at."""
    model: str | None = None
    """A name of the pool, of a model or of an adapter of one; None is its first model."""

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ParameterError(
                "a request has a prompt or messages, and this one has "
                f"{'neither' if self.prompt is None else 'both'}"
            )
        for name in ("timeout_seconds", "first_token_timeout_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ParameterError(f"{name} is a number above 0, not {value!r}")
