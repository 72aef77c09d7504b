"""Requests and responses of `AsyncLLM`: plain fields, from a dictionary if you like."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.errors import ParameterError
from tercet.sampling.params import SamplingParams
from tercet.tokenization.chat_template import Message

__all__ = ["TextRequest", "TextResponse", "text_request"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRequest:
    """A prompt or a conversation, and how to answer it.

    `max_tokens`, `temperature` and `top_p` are as written here, whatever the model came with.
    """

    id: str | None = None
    """Comes back with the response; without one the place in the batch gives `req_0`, `req_1`, ..."""
    prompt: str | Sequence[int] | None = None
    """Text, or token ids."""
    messages: Sequence[Message] | None = None
    """A conversation, instead of a prompt."""
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    stream: bool = False
    """Read piece by piece, with `AsyncLLM.stream`; a batch answers it whole."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own; comes back as `request_metadata`."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `SamplingParams`: `{"seed": 7, "stop": ["."]}`. A dictionary that becomes a request
    may name them beside the others."""
    model: str | None = None
    """One of several models, by name."""
    timeout_seconds: float | None = None
    """For this request; None takes that of the object."""

    def params(self) -> SamplingParams:
        """Return the sampling; ParameterError where a value is not valid."""
        own: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        return SamplingParams(**own, **self.sampling)


@dataclass(frozen=True, kw_only=True)
class TextResponse:
    """An answer, or why there is none."""

    id: str
    text: str = ""
    success: bool = True
    error_message: str | None = None
    error_type: str | None = None
    """Name of the exception."""
    finish_reason: str | None = None
    """"stop", "length" or "cancelled"."""
    token_ids: list[int] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """`generation_time` in seconds from submission to end, `time_to_first_token`, `tokens_generated`,
    `tokens_per_second`, `prompt_tokens`, `cached_tokens` of the prompt, `cache_hit` (the whole response was
    remembered), `model`, `seed`."""
    request_metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, request: TextRequest, result: GenerationResult) -> TextResponse:
        """Return the response that a result is."""
        return cls(
            id=request.id or "",
            text=result.text,
            finish_reason=result.finish_reason,
            token_ids=list(result.token_ids),
            metadata={
                "generation_time": result.generation_time_seconds,
                "time_to_first_token": result.time_to_first_token_seconds,
                "tokens_generated": result.generated_tokens,
                "tokens_per_second": result.tokens_per_second,
                "prompt_tokens": result.prompt_tokens,
                "cached_tokens": result.cached_tokens,
                "cache_hit": result.response_cached,
                "model": result.metadata.get("model"),
                "seed": result.metadata.get("seed"),
            },
            request_metadata=request.metadata,
        )

    @classmethod
    def failed(cls, request: TextRequest, error: Exception) -> TextResponse:
        """Return the response that an error is."""
        return cls(
            id=request.id or "",
            success=False,
            error_message=str(error) or type(error).__name__,
            error_type=type(error).__name__,
            request_metadata=request.metadata,
        )


_FIELDS = {one.name for one in dataclasses.fields(TextRequest)}
_SAMPLING = {one.name for one in dataclasses.fields(SamplingParams) if one.init} - _FIELDS


def text_request(request: TextRequest | Mapping[str, Any], default_id: str) -> TextRequest:
    """Return a request with an id and with valid sampling, made of a dictionary if it is one.

    Raises:
        ParameterError: a name is not known, or a value not valid.
    """
    if isinstance(request, Mapping):
        unknown = [str(name) for name in request if name not in _FIELDS | _SAMPLING]
        if unknown:
            names = ", ".join(sorted(_FIELDS | _SAMPLING))
            raise ParameterError(f"a request has no {', '.join(sorted(unknown))}; it may have {names}")
        named = {name: value for name, value in request.items() if name in _SAMPLING}
        fields = {name: value for name, value in request.items() if name in _FIELDS}
        request = TextRequest(**{**fields, "sampling": {**fields.get("sampling", {}), **named}})
    elif not isinstance(request, TextRequest):
        raise ParameterError(f"a request is a TextRequest or a dictionary, not {type(request).__name__}")
    if request.id is None or request.id == "":
        request = dataclasses.replace(request, id=default_id)
    if not isinstance(request.id, str):
        raise ParameterError(f"the id of a request is text, not {request.id!r}")
    request.params()
    return request
