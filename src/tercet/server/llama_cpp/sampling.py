"""llama.cpp's sampling fields as ours.

What a request does not name is as the model came with it, which /props shows; llama.cpp has fixed defaults
instead. A field that would change the tokens in a way that we do not have is refused by its name, unless its
value turns it off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tercet.llm import LLM
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.params import LARGEST_COUNT, SamplingParams
from tercet.server.errors import ApiError
from tercet.server.llama_cpp.bodies import LlamaCppCompletionBody

__all__ = ["constraint", "most_tokens", "sampling_params"]

SMALLEST_TOP_P = 1e-9
FORBIDDEN_BIAS = -100.0

_TURNED_OFF: dict[str, Callable[[Any], bool]] = {
    "dynatemp_range": lambda value: value == 0,
    "typical_p": lambda value: value == 1,
    "top_n_sigma": lambda value: value <= 0,
    "dry_multiplier": lambda value: value == 0,
    "xtc_probability": lambda value: value == 0,
    "mirostat": lambda value: value == 0,
    "adaptive_target": lambda value: value < 0,
    "n_indent": lambda value: value == 0,
    "min_keep": lambda value: value <= 1,
    "n_discard": lambda value: value == 0,
    "t_max_predict_ms": lambda value: value <= 0,
    "post_sampling_probs": lambda value: value is False,
    "grammar_lazy": lambda value: value is False,
    "return_progress": lambda value: value is False,
    "image_data": lambda value: value == [],
}
"""Fields that we do not have, and the values with which they ask for nothing."""

_SAMPLERS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "temperature": {"temperature": 1.0},
    "penalties": {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
}
"""Our samplers by llama.cpp's names, and what turns each of them off."""
_SHORT_NAMES = {"k": "top_k", "p": "top_p", "m": "min_p", "t": "temperature", "e": "penalties"}


def sampling_params(body: LlamaCppCompletionBody, llm: LLM, index: int = 0) -> SamplingParams:
    """Return the sampling of one answer; of several, each has a seed of its own.

    Raises:
        ApiError: a field asks for what we do not have.
        ParameterError: a value is not valid.
    """
    _check_extra(body.model_extra or {})
    values: dict[str, Any] = {
        "max_tokens": most_tokens(body) or 1,
        "temperature": None if body.temperature is None else max(body.temperature, 0.0),
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "top_p": None if body.top_p is None else min(max(body.top_p, SMALLEST_TOP_P), 1.0),
        "min_p": body.min_p,
        "repetition_penalty": body.repeat_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "seed": None if body.seed in (None, -1) else (body.seed + index) % 2**64,
        "stop": body.stop,
        "ignore_eos": body.ignore_eos,
        "logit_bias": None if body.logit_bias is None else _biases(body.logit_bias, llm),
        "logprobs": body.n_probs or None,
    }
    if body.repeat_last_n == 0:
        values |= _SAMPLERS["penalties"]
    if body.samplers is not None:
        values |= _without_unnamed(body.samplers)
    return SamplingParams(**{name: value for name, value in values.items() if value is not None})


def most_tokens(body: LlamaCppCompletionBody) -> int:
    """Most tokens of an answer; 0 where only the prompt is to be read."""
    asked = body.n_predict if body.n_predict is not None else body.max_tokens
    return LARGEST_COUNT if asked is None or asked < 0 else asked


def constraint(body: LlamaCppCompletionBody) -> ConstraintSpec | None:
    """What the answer must look like.

    Raises:
        ApiError: there are both a grammar and a schema.
    """
    schema = None if body.json_schema is False else body.json_schema
    if body.grammar and schema is not None:
        raise ApiError(
            400,
            "json_schema: an answer follows one constraint, and grammar is given as well; leave one out",
            param="json_schema",
            code="invalid_value",
        )
    if schema is not None:
        return ConstraintSpec("json_schema", {} if schema is True else schema)
    return ConstraintSpec("grammar", body.grammar) if body.grammar else None


def _check_extra(extra: dict[str, Any]) -> None:
    for name, asks_for_nothing in _TURNED_OFF.items():
        value = extra.get(name)
        if value is None:
            continue
        try:
            off = asks_for_nothing(value)
        except TypeError:
            off = False
        if not off:
            raise ApiError(
                400,
                f"{name}: this server does not have it; leave it out",
                param=name,
                code="unsupported_value",
            )


def _without_unnamed(samplers: list[str] | str) -> dict[str, Any]:
    named = {_SHORT_NAMES.get(name, name) for name in samplers}
    off: dict[str, Any] = {}
    for name, values in _SAMPLERS.items():
        if name not in named:
            off |= values
    return off


def _biases(given: list[list[Any]] | dict[str, Any], llm: LLM) -> dict[int, float]:
    pairs = list(given.items()) if isinstance(given, dict) else given
    biases: dict[int, float] = {}
    for token, bias in pairs:
        if bias is False:
            bias = FORBIDDEN_BIAS
        if isinstance(bias, bool) or not isinstance(bias, (int, float)):
            raise _bad_bias(f"the bias of {token!r} is a number or false, not {bias!r}")
        for token_id in _tokens_of(token, isinstance(given, dict), llm):
            biases[token_id] = min(max(float(bias), -100.0), 100.0)
    return biases


def _tokens_of(token: Any, may_be_number: bool, llm: LLM) -> list[int]:
    if isinstance(token, str):
        is_number = may_be_number and token.isascii() and token.isdigit()
        return [int(token)] if is_number else llm.tokenize(token)
    if isinstance(token, bool) or not isinstance(token, int) or token < 0:
        raise _bad_bias(f"a token is an id or a text, not {token!r}")
    return [token]


def _bad_bias(message: str) -> ApiError:
    return ApiError(400, f"logit_bias: {message}", param="logit_bias", code="invalid_value")
