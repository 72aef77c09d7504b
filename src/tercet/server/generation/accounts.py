"""What OpenAI's answers say about themselves: usage, log probabilities, identifiers, the fingerprint."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.llm import LLM
from tercet.sampling.logprobs import TokenLogprobs
from tercet.tokenization import Tokenizer

__all__ = ["OldLogprobs", "completion_id", "fingerprint", "token_logprobs", "usage", "usage_of"]

LOWEST_LOGPROB = -9999.0
"""What OpenAI writes for tokens that cannot be."""


def completion_id(prefix: str) -> str:
    """Return an identifier that no other answer has: `chatcmpl-...`, 96 random bits."""
    return f"{prefix}{secrets.token_hex(12)}"


def fingerprint(llm: LLM) -> str:
    """Name all that decides which tokens a seed gives: two answers with the same one can be compared."""
    settings = (version("tercet"), llm.name, llm.config, llm.settings.kv_dtype, llm.settings.head)
    return "fp_" + hashlib.sha256(repr(settings).encode()).hexdigest()[:10]


def usage(results: Sequence[GenerationResult], choices_per_prompt: int | None = None) -> dict[str, Any]:
    """Sum up tokens; results stand prompt by prompt, and a prompt is counted once for all its choices."""
    step = choices_per_prompt or len(results)
    prompts = [results[begin : begin + step] for begin in range(0, len(results), step)]
    return usage_of(
        sum(prompt[0].prompt_tokens for prompt in prompts),
        sum(result.generated_tokens for result in results),
        # What a prompt's first choice computed, its others have found.
        sum(min(result.cached_tokens for result in prompt) for prompt in prompts),
    )


def usage_of(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Return a usage object; cached tokens of the prompt had been computed for an earlier request."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def token_logprobs(tokenizer: Tokenizer, logprobs: Iterable[TokenLogprobs]) -> list[dict[str, Any]]:
    """Return log probabilities as chat completions and responses have them, one object for each token."""
    return [
        {
            **_token(tokenizer, one.token_id, one.logprob),
            "top_logprobs": [_token(tokenizer, token, logprob) for token, logprob in one.top],
        }
        for one in logprobs
    ]


class OldLogprobs:
    """Log probabilities as completions have them, parallel lists, for a text that comes in pieces.

    A token that is only part of a character is written as `bytes:\\xe2\\x82`, as OpenAI does. Offsets count
    characters of the text, from `offset` on, and such a token stands where its character does.
    """

    def __init__(self, tokenizer: Tokenizer, offset: int) -> None:
        self._tokenizer = tokenizer
        self._offset = offset
        self._rest = b""  # of a character that is not complete

    def push(self, logprobs: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """Return the lists for some more tokens."""
        offsets = []
        for one in logprobs:
            offsets.append(self._offset)
            self._rest += self._tokenizer.token_bytes(one.token_id)
            complete = self._rest.decode("utf-8", "ignore")
            if complete:
                self._offset += len(complete)
                self._rest = self._rest.removeprefix(complete.encode())
        with_top = any(one.top for one in logprobs)
        return {
            "tokens": [self._text(one.token_id) for one in logprobs],
            "token_logprobs": [max(one.logprob, LOWEST_LOGPROB) for one in logprobs],
            "top_logprobs": [self._top(one) for one in logprobs] if with_top else None,
            "text_offset": offsets,
        }

    def _top(self, one: TokenLogprobs) -> dict[str, float]:
        return {self._text(token): max(logprob, LOWEST_LOGPROB) for token, logprob in one.top}

    def _text(self, token_id: int) -> str:
        data = self._tokenizer.token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _token(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.token_bytes(token_id)
    return {
        "token": data.decode("utf-8", "replace"),
        "logprob": max(logprob, LOWEST_LOGPROB),
        "bytes": list(data),
    }
