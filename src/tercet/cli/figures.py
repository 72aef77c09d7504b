"""The line of measured figures that ends a generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tercet.cli.console import mebibytes
from tercet.engine.memory import MemoryUsage
from tercet.engine.result import GenerationResult


def figures_line(result: GenerationResult, memory: MemoryUsage) -> str:
    """One line: prompt and generated tokens with their speeds, guesses, time to first token, memory, seed."""
    speed = result.metadata
    parts = [
        _counted("prompt", result.prompt_tokens, speed["prompt_tokens_per_second"]),
        _counted("generated", result.generated_tokens, speed["decode_tokens_per_second"]),
        *_guesses(speed["speculation"]),
        f"first token {result.time_to_first_token_seconds * 1000:.0f} ms",
        f"peak memory {mebibytes(memory.peak_resident_bytes)}",
        f"seed {speed['seed']}",
    ]
    return " · ".join(parts)


def figures_data(result: GenerationResult, memory: MemoryUsage) -> dict[str, Any]:
    """The result and the same figures as data."""
    return {**result.to_dict(), "memory": memory.to_dict()}


def _guesses(figures: Mapping[str, float] | None) -> list[str]:
    """Where tokens were guessed: what came of it."""
    if figures is None:
        return []
    right = f"{figures['accepted_tokens']} of {figures['proposed_tokens']} guesses right"
    return [f"{right}, {figures['tokens_per_step']:.2f} tokens a step"]


def _counted(what: str, count: int, per_second: float) -> str:
    tokens = "1 token" if count == 1 else f"{count} tokens"
    # A single generated token has no time between tokens, so no speed.
    return f"{what} {tokens}, {per_second:.1f} tokens/s" if per_second > 0 else f"{what} {tokens}"
