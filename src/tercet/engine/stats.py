"""What an engine has done so far, and what it holds now: plain numbers, for whoever watches it.

Counters only grow; at any moment

    started == finished + aborted + failed + rejected + running + waiting

and `free + owned + cached == num_blocks`. The times of single requests stand on `Request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EngineStats"]


@dataclass
class EngineStats:
    """Counters since the engine was made, and the state after its latest step."""

    started: int = 0
    """Requests that were submitted, the rejected ones included."""
    finished: int = 0
    """Requests that came to their end: an end token, a stop string, or as many tokens as were asked for."""
    aborted: int = 0
    """Requests that were cancelled: by their callers, since nobody read them, or at the end of a drain."""
    failed: int = 0
    """Requests that ended with an error, those included whose time was up."""
    rejected: int = 0
    """Requests that were refused at once, because too many others waited."""
    expired: int = 0
    """Those of the failed ones whose time was up."""

    running: int = 0
    waiting: int = 0
    """Requests that own no memory: new ones, and those that were preempted."""
    queued_tokens: int = 0
    """Tokens that the waiting requests need computed before their next one can be drawn."""

    num_blocks: int = 0
    free_blocks: int = 0
    owned_blocks: int = 0
    cached_blocks: int = 0

    steps: int = 0
    step_sequences: int = 0
    """Requests that steps carried: each step counts as many as it had."""
    busy_seconds: float = 0.0
    """Time inside of steps."""
    prompt_tokens: int = 0
    """Tokens of prompts that were computed, those of preempted requests again each time."""
    generated_tokens: int = 0
    step_sizes: Mapping[int, int] = field(default_factory=dict)
    """How many steps had how many tokens."""
    preemptions: int = 0
    recomputed_tokens: int = 0
    """Tokens that preempted requests had in the cache and did not find there any more."""
    prefix_queries: int = 0
    """Tokens of prompts that were looked for in the cache."""
    prefix_hits: int = 0
    """Those of them that were there."""
    drafts: int = 0
    """Times that a step checked guesses for a request."""
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    """Guesses that were right (`tercet.engine.speculation`)."""
