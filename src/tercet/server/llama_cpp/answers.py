"""llama.cpp's response objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.sampling.logprobs import TokenLogprobs
from tercet.server.generation.accounts import token_logprobs
from tercet.tokenization import Tokenizer

__all__ = ["final", "generation_settings", "partial", "picked", "probabilities", "timings"]


def partial(
    index: int, content: str, tokens: Sequence[int], num_predicted: int, num_prompt: int
) -> dict[str, Any]:
    """One event of a stream, before its last."""
    return {
        "index": index,
        "content": content,
        "tokens": list(tokens),
        "stop": False,
        "id_slot": -1,
        "tokens_predicted": num_predicted,
        "tokens_evaluated": num_prompt,
    }


def final(
    index: int,
    result: GenerationResult,
    *,
    prompt: str,
    settings: Mapping[str, Any],
    content: str,
    tokens: Sequence[int],
) -> dict[str, Any]:
    """The answer, or the last event of a stream, which has no text of its own."""
    stop_string = result.metadata["stop_string"]
    stop_type = "eos" if stop_string is None else "word"
    stop_type = {"length": "limit", "content_filter": "content_filter"}.get(result.finish_reason, stop_type)
    return {
        "index": index,
        "content": content,
        "tokens": list(tokens),
        "id_slot": -1,
        "stop": True,
        "model": result.metadata["model"],
        "tokens_predicted": result.generated_tokens,
        "tokens_evaluated": result.prompt_tokens,
        "generation_settings": dict(settings),
        "prompt": prompt,
        "has_new_line": "\n" in result.text,
        "truncated": False,
        "stop_type": stop_type,
        "stopping_word": stop_string or "",
        "tokens_cached": result.cached_tokens,
        "timings": timings(result),
    }


def timings(result: GenerationResult) -> dict[str, Any]:
    """Counts and measured times; the time in the queue is in neither."""
    parts = result.metadata.get("timings") or {}
    prompt_ms = 1e3 * (parts.get("prefill_seconds") or 0.0)
    predicted_ms = 1e3 * (parts.get("decode_seconds") or 0.0)
    computed = result.prompt_tokens - result.cached_tokens
    # The first token comes out of the prompt's own pass, so the others are what generating takes time for.
    steps = max(result.generated_tokens - 1, 0)
    return {
        "cache_n": result.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": _ratio(prompt_ms, computed),
        "prompt_per_second": _ratio(1e3 * computed, prompt_ms),
        "predicted_n": result.generated_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": _ratio(predicted_ms, steps),
        "predicted_per_second": _ratio(1e3 * steps, predicted_ms),
    }


def probabilities(tokenizer: Tokenizer, logprobs: Iterable[TokenLogprobs]) -> list[dict[str, Any]]:
    """The log probabilities of tokens and of the likeliest in their places, with ids."""
    measured = list(logprobs)
    shown = token_logprobs(tokenizer, measured)
    return [
        {
            "id": one.token_id,
            **values,
            "top_logprobs": [
                {"id": token, **top} for (token, _), top in zip(one.top, values["top_logprobs"], strict=True)
            ],
        }
        for one, values in zip(measured, shown, strict=True)
    ]


def generation_settings(sampling: Mapping[str, Any], max_context: int) -> dict[str, Any]:
    """The sampling in force by llama.cpp's names; the fields that its clients look at."""
    most = min(sampling["max_tokens"], max_context)
    return {
        "n_ctx": max_context,
        "n_predict": most,
        "max_tokens": most,
        "seed": sampling["seed"],
        "temperature": sampling["temperature"],
        "top_k": sampling["top_k"],
        "top_p": sampling["top_p"],
        "min_p": sampling["min_p"],
        "repeat_last_n": -1,
        "repeat_penalty": sampling["repetition_penalty"],
        "presence_penalty": sampling["presence_penalty"],
        "frequency_penalty": sampling["frequency_penalty"],
        "stop": list(sampling["stop"]),
        "ignore_eos": sampling["ignore_eos"],
        "n_probs": sampling.get("logprobs") or 0,
        "logit_bias": [
            {"token": token, "bias": bias} for token, bias in dict(sampling.get("logit_bias") or {}).items()
        ],
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }


def picked(answer: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """The fields that `response_fields` names; `a/b` is the field b of a, and what is missing is left out."""
    if not fields:
        return answer
    chosen: dict[str, Any] = {}
    for path in fields:
        value: Any = answer
        for name in path.split("/"):
            if not isinstance(value, Mapping) or name not in value:
                break
            value = value[name]
        else:
            chosen[path] = value
    return chosen


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else 0.0
