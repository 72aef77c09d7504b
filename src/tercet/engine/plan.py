"""What the next step computes: a pure decision, no clock, no arrays, no side effects.

Policy: every sequence that is generating gets its one token first (latency of the many), then the tokens
that are proposed for it (`tercet.engine.speculation`, a few), then prompts are prefilled in chunks with what
is left of the token budget (so that a long prompt cannot stall the others). Beside somebody who generates,
prompts get a quarter of it: a full step takes ten times as long as a token does, and whoever reads along
would see every one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.engine.request import Request

ENOUGH_PROMPT_TOKENS = 64
"""A step of so many tokens of prompts uses the machine well; beside generators more are not needed."""


@dataclass(frozen=True)
class StepLimits:
    """How large one step may become."""

    max_step_tokens: int = 256
    max_sequences: int = 16


@dataclass(frozen=True)
class Chunk:
    """Some tokens of one request."""

    request: Request
    num_tokens: int
    """Counted from the first token that is not in the cache, the proposed ones included."""
    samples: bool
    """Whether the last known token is among these, so that the next one can be drawn."""
    num_proposed: int = 0
    """How many at the end are proposed: guesses that this step checks."""

    @property
    def num_drawn(self) -> int:
        """Tokens from whose logits one may be drawn: the last that is known, and all that are proposed."""
        return 1 + self.num_proposed if self.samples else 0


def plan_step(running: Sequence[Request], limits: StepLimits) -> tuple[Chunk, ...]:
    """Choose the tokens of the next step."""
    generating = [request for request in running if request.num_pending == 1]
    prefilling = [request for request in running if request.num_pending > 1]
    budget = limits.max_step_tokens
    spare = max(0, budget - len(generating))
    chunks = []
    for request in generating[:budget]:
        proposed = min(len(request.proposed_ids), spare)
        spare -= proposed
        chunks.append(Chunk(request, 1 + proposed, samples=True, num_proposed=proposed))
    if generating:
        spare = min(spare, max(budget // 4, ENOUGH_PROMPT_TOKENS))
    for request in prefilling:
        count = min(request.num_pending, spare)
        if count > 0:
            chunks.append(Chunk(request, count, samples=count == request.num_pending))
            spare -= count
    return tuple(chunks)


def plan_embedding(
    lengths: Sequence[int], num_blocks: int, block_tokens: int, limits: StepLimits
) -> list[range]:
    """Cut whole sequences of these lengths into runs that are computed together, each a range of indices.

    A run keeps to the limits of a step and to `num_blocks` of the cache; a long sequence is a run alone.
    """
    runs: list[range] = []
    tokens = blocks = 0
    for index, length in enumerate(lengths):
        needed = -(-length // block_tokens)
        tokens, blocks = tokens + length, blocks + needed
        begin = runs[-1].start if runs else 0
        is_full = (
            tokens > limits.max_step_tokens
            or blocks > num_blocks
            or index - begin >= limits.max_sequences
            or not runs
        )
        if is_full:
            begin, tokens, blocks = index, length, needed
            runs.append(range(begin, index + 1))
        else:
            runs[-1] = range(begin, index + 1)
    return runs
