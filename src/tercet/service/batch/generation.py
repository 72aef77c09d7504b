"""Plain requests of a batch, answered by a model of this process.

    {"id": "a", "prompt": "Once upon a time", "max_tokens": 50, "temperature": 0, "metadata": {"page": 3}}
    {"messages": [{"role": "user", "content": "Hello"}], "seed": 7, "stop": ["\\n"]}

Beside the prompt or the messages, a request has fields of `SamplingParams` and at most one of `json_schema`,
`regex` and `grammar`. A name that is none of these is an error: a mistyped `temprature` would otherwise go
unnoticed ten thousand times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from tercet.engine.result import GenerationResult
from tercet.errors import OverloadedError, ParameterError, UnavailableError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.params import SamplingParams
from tercet.service.batch.lines import BatchLine, Outcome
from tercet.service.batch.run import StopBatch, TryAgain
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest

__all__ = ["ModelAnswer", "generation_request"]

_SAMPLING = {field.name for field in dataclasses.fields(SamplingParams) if field.init}
_CONSTRAINTS: tuple[Literal["json_schema", "regex", "grammar"], ...] = ("json_schema", "regex", "grammar")
_FIELDS = {"prompt", "messages", *_CONSTRAINTS, *_SAMPLING}


class ModelAnswer:
    """Answers lines of the plain form.

    Args:
        submit: `submit` of a `ServedModel` or of a `Service`.
        defaults: sampling that holds where a line does not say otherwise.
    """

    def __init__(
        self,
        submit: Callable[[GenerationRequest], Awaitable[Generation]],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._submit = submit
        self._defaults = dict(defaults or {})

    async def __call__(self, line: BatchLine) -> Outcome:
        """Answer one line; raises what is wrong with it, TryAgain or StopBatch."""
        try:
            generation = await self._submit(generation_request(line, self._defaults))
        except OverloadedError as error:
            raise TryAgain(error.retry_after_seconds) from error
        except UnavailableError as error:
            raise StopBatch(error) from error
        try:
            return Outcome(200, _fields(await generation.result()))
        except UnavailableError as error:  # the model was stopped underneath
            raise StopBatch(error) from error
        finally:
            if generation.outcome is None:  # the batch ends before the answer does
                await generation.cancel()


def generation_request(line: BatchLine, defaults: Mapping[str, Any] | None = None) -> GenerationRequest:
    """Return what a line asks for.

    Raises:
        ParameterError: a field is unknown, or its value is not valid.
    """
    body = line.body
    if unknown := sorted(set(body) - _FIELDS):
        raise ParameterError(
            f"a request has no field {', '.join(unknown)}; "
            f"there are id, metadata, {', '.join(sorted(_FIELDS))}"
        )
    prompt, messages = body.get("prompt"), body.get("messages")
    if prompt is not None and not isinstance(prompt, (str, list)):
        raise ParameterError("prompt is a text or a list of token ids")
    if messages is not None and not isinstance(messages, list):
        raise ParameterError('messages is a list of {"role": ..., "content": ...}')
    sampling = {**(defaults or {}), **{name: body[name] for name in body.keys() & _SAMPLING}}
    if isinstance(biases := sampling.get("logit_bias"), Mapping):
        sampling["logit_bias"] = {_token_id(token): bias for token, bias in biases.items()}
    return GenerationRequest(
        id=line.id,
        prompt=prompt,
        messages=messages,
        params=SamplingParams(**sampling),
        constraint=_constraint(body),
    )


def _constraint(body: Mapping[str, Any]) -> ConstraintSpec | None:
    given = [name for name in _CONSTRAINTS if body.get(name) is not None]
    if len(given) > 1:
        raise ParameterError(f"a request has one of {' and '.join(given)}, not both")
    if not given:
        return None
    (kind,) = given
    return ConstraintSpec(kind, body[kind])


def _token_id(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ParameterError(f"logit_bias has token ids as its names, not {text!r}")
    return int(text)


def _fields(result: GenerationResult) -> dict[str, Any]:
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "model": result.metadata["model"],
        "seed": result.metadata["seed"],
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "cached_tokens": result.cached_tokens,
            "completion_tokens": result.generated_tokens,
            "total_tokens": result.prompt_tokens + result.generated_tokens,
        },
        "seconds": round(result.generation_time_seconds, 6),
    }
