"""What the shipped model says when nobody disturbs it: the greedy answers, computed without a server."""

from __future__ import annotations

from collections.abc import Sequence

from tercet import LLM

__all__ = ["known_answers"]


def known_answers(prompts: Sequence[str], max_tokens: int, threads: int | None = None) -> dict[str, str]:
    """Prompt -> answer of `max_tokens` tokens, the ones that would end it among them."""
    with LLM(threads=threads) as llm:
        results = llm.generate(list(prompts), max_tokens=max_tokens, temperature=0, ignore_eos=True)
    return {prompt: result.text for prompt, result in zip(prompts, results, strict=True)}
