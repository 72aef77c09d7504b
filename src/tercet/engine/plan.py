"""What the next step computes: a pure decision, no clock, no arrays, no side effects.

Policy: every sequence that is generating gets its one token first (latency of the many), then prompts are
prefilled in chunks with what is left of the token budget (so that a long prompt cannot stall the others),
then waiting requests are admitted in order. A request is admitted only when the blocks it could ever need
are free: nothing has to be evicted, and nothing can deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.engine.request import Request


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
    """Counted from the first token that is not in the cache."""
    samples: bool
    """Whether these are its last known tokens, so that the next one can be drawn."""


@dataclass(frozen=True)
class Plan:
    """The chunks of one step, and the requests that leave the queue for it."""

    admitted: tuple[Request, ...]
    chunks: tuple[Chunk, ...]


def plan_step(
    waiting: Sequence[Request],
    running: Sequence[Request],
    num_free_blocks: int,
    block_tokens: int,
    limits: StepLimits,
) -> Plan:
    """Choose the tokens of the next step."""
    budget = limits.max_step_tokens
    chunks: list[Chunk] = []

    def add(request: Request) -> None:
        nonlocal budget
        count = min(request.num_pending, budget)
        if count > 0:
            chunks.append(Chunk(request, count, samples=count == request.num_pending))
            budget -= count

    generating = [request for request in running if request.num_pending == 1]
    prefilling = [request for request in running if request.num_pending > 1]
    for request in generating + prefilling:
        add(request)

    admitted: list[Request] = []
    for request in waiting:
        needed = -(-request.max_cached // block_tokens)
        if budget == 0 or needed > num_free_blocks or len(running) + len(admitted) == limits.max_sequences:
            break
        num_free_blocks -= needed
        admitted.append(request)
        add(request)
    return Plan(tuple(admitted), tuple(chunks))


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
