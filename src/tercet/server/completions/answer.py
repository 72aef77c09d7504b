"""From what the service gives to text completions and their chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tercet.engine.result import GenerationResult
from tercet.server.completions.body import CompletionBody
from tercet.server.generation.accounts import OldLogprobs, completion_id, fingerprint, usage
from tercet.server.generation.choices import Choices, finish_reason
from tercet.server.streaming.events import DONE, event
from tercet.service.served_model import ServedModel

__all__ = ["CompletionAnswer"]


class CompletionAnswer:
    """Writes the answer to one request: choices stand prompt by prompt."""

    def __init__(self, served: ServedModel, body: CompletionBody) -> None:
        self._body = body
        self._tokenizer = served.llm.tokenizer
        self._echoes = [self._echo(prompt) for prompt in body.prompts]
        self._frame = {
            "id": completion_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": fingerprint(served.llm),
        }

    def whole(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """Return the completion of finished generations."""
        candidates, n = self._body.candidates, self._body.n or 1
        choices = []
        for number, echo in enumerate(self._echoes):
            ranked = results[number * candidates : (number + 1) * candidates]
            if candidates > n:
                ranked = sorted(ranked, key=_mean_logprob, reverse=True)
            choices += [self._choice(echo, result) for result in ranked[:n]]
        return {
            **self._frame,
            "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
            "usage": usage(results, candidates),
        }

    async def stream(self, choices: Choices) -> AsyncGenerator[bytes, None]:
        """Give the chunks as events."""
        options, n = self._body.stream_options, self._body.n or 1
        include_usage = options is not None and bool(options.include_usage)
        frame = {**self._frame, "usage": None} if include_usage else self._frame
        logprobs = [OldLogprobs(self._tokenizer, 0) for _ in choices.generations]
        results: dict[int, GenerationResult] = {}

        def chunk(index: int, text: str, listed: dict[str, Any] | None, finish: str | None) -> bytes:
            choice = {"index": index, "text": text, "logprobs": listed, "finish_reason": finish}
            return event({**frame, "choices": [choice]})

        items = choices.events()
        try:
            for index in range(len(logprobs) if self._body.echo else 0):
                yield chunk(index, self._echoes[index // n], None, None)
            async for index, item in items:
                if isinstance(item, GenerationResult):
                    results[index] = item
                    yield chunk(index, "", None, finish_reason(item))
                elif item.text or self._body.logprobs is not None:
                    listed = None if self._body.logprobs is None else logprobs[index].push(item.logprobs)
                    yield chunk(index, item.text, listed, None)
        finally:
            await items.aclose()
        if include_usage:
            total = usage([results[index] for index in sorted(results)], n)
            yield event({**self._frame, "choices": [], "usage": total})
        yield DONE

    def _choice(self, echo: str, result: GenerationResult) -> dict[str, Any]:
        asked = self._body.logprobs is not None
        return {
            "text": echo + result.text,
            "logprobs": OldLogprobs(self._tokenizer, len(echo)).push(result.logprobs) if asked else None,
            "finish_reason": finish_reason(result),
        }

    def _echo(self, prompt: str | list[int]) -> str:
        if not self._body.echo:
            return ""
        return prompt if isinstance(prompt, str) else self._tokenizer.decode(prompt, skip_special=False)


def _mean_logprob(result: GenerationResult) -> float:
    """How likely the answer was, for each of its tokens: longer ones are not worse for their length."""
    values = [one.logprob for one in result.logprobs]
    return sum(values) / len(values) if values else 0.0
