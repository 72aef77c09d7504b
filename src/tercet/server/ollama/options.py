"""Ollama's options as ours.

What a request does not name is as the model came with it.
"""

from __future__ import annotations

from typing import Any

from tercet.errors import ContextLengthError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.params import LARGEST_COUNT, SamplingParams
from tercet.server.errors import ApiError
from tercet.server.ollama.bodies import OllamaGenerationBody, OllamaOptions
from tercet.service.generation import Generation
from tercet.service.pool import ModelPool
from tercet.service.served_model import ServedModel

__all__ = ["check_context", "check_prompt", "constraint", "model_of", "sampling_params"]

SMALLEST_TOP_P = 1e-9
DEFAULT_TAG = ":latest"


def model_of(pool: ModelPool, name: str) -> ServedModel:
    """The model of a name, with or without Ollama's default tag.

    Raises:
        ApiError: there is none.
    """
    names = [entry.name for entry in pool.entries]
    found = name if name in names else name.removesuffix(DEFAULT_TAG)
    if names and found not in names:
        raise ApiError(404, f"model '{name}' not found", code="model_not_found")
    return pool.get(found)


def sampling_params(body: OllamaGenerationBody) -> SamplingParams:
    """Return the sampling of a request.

    Raises:
        ParameterError: a value is not valid.
    """
    asked = body.options or OllamaOptions.model_validate({})
    values: dict[str, Any] = {
        "max_tokens": asked.num_predict if asked.num_predict and asked.num_predict > 0 else LARGEST_COUNT,
        "temperature": asked.temperature,
        "top_k": None if asked.top_k is None else max(asked.top_k, 0),
        "top_p": None if asked.top_p is None else min(max(asked.top_p, SMALLEST_TOP_P), 1.0),
        "min_p": asked.min_p,
        "repetition_penalty": asked.repeat_penalty,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "seed": None if asked.seed is None or asked.seed < 0 else asked.seed,
        "stop": asked.stop,
        "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
    }
    if asked.repeat_last_n == 0:
        values |= {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    return SamplingParams(**{name: value for name, value in values.items() if value is not None})


def constraint(body: OllamaGenerationBody) -> ConstraintSpec | None:
    """What the answer must look like."""
    if isinstance(body.format, dict):
        return ConstraintSpec("json_schema", body.format)
    return ConstraintSpec("json_object") if body.format == "json" else None


def check_context(body: OllamaGenerationBody, served: ServedModel) -> None:
    """Refuse a context that the model does not have: it would only seem to be there.

    Raises:
        ApiError: `num_ctx` is larger.
    """
    asked = body.options.num_ctx if body.options else None
    if asked is not None and asked > served.llm.max_context:
        raise ApiError(
            400,
            f"options.num_ctx: {asked} tokens are more than the context of {served.llm.max_context} "
            f"that {served.name} has; ask for at most that, or leave it out",
            param="options.num_ctx",
            code="invalid_value",
        )


async def check_prompt(body: OllamaGenerationBody, running: Generation) -> None:
    """Refuse a prompt that leaves no room in `num_ctx`; it is never cut.

    Raises:
        ContextLengthError: it is too long.
    """
    limit = body.options.num_ctx if body.options else None
    if limit is not None and running.prompt_tokens >= limit:
        await running.cancel()
        raise ContextLengthError(
            f"the prompt has {running.prompt_tokens} tokens, and options.num_ctx is {limit}",
            running.prompt_tokens,
            limit,
        )
