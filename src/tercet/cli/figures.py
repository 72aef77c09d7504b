"""The line of measured figures that ends a generation."""

from __future__ import annotations

from typing import Any

from tercet.cli.console import mebibytes
from tercet.engine.memory import MemoryUsage
from tercet.engine.result import GenerationResult


def figures_line(result: GenerationResult, memory: MemoryUsage) -> str:
    """One line: prompt and generated tokens with their speeds, time to first token, peak memory, seed."""
    speed = result.metadata
    parts = [
        _counted("prompt", result.prompt_tokens, speed["prompt_tokens_per_second"]),
        _counted("generated", result.generated_tokens, speed["decode_tokens_per_second"]),
        f"first token {result.time_to_first_token_seconds * 1000:.0f} ms",
        f"peak memory {mebibytes(memory.peak_resident_bytes)}",
        f"seed {speed['seed']}",
    ]
    return " · ".join(parts)


def figures_data(result: GenerationResult, memory: MemoryUsage) -> dict[str, Any]:
    """The result and the same figures as data."""
    return {**result.to_dict(), "memory": memory.to_dict()}


def _counted(what: str, count: int, per_second: float) -> str:
    tokens = "1 token" if count == 1 else f"{count} tokens"
    # A single generated token has no time between tokens, so no speed.
    return f"{what} {tokens}, {per_second:.1f} tokens/s" if per_second > 0 else f"{what} {tokens}"
