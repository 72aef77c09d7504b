"""Reading whole sequences for what the model thinks of them: logits behind many of their tokens.

Nothing is generated; what is wanted is the distribution behind each token from some position on (the answer
behind a question, every token of a text). Short sequences share steps, a long one takes several. Where the
pool keeps prefixes, equal beginnings are computed once: a sequence whose next block is just being computed
for another waits for a step, then reads what that one has left. The bits of a row depend on none of this
(docs/concepts/determinism.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tercet.engine.adapters import ChosenAdapter, adapter_salt
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.prefix_index import block_key, root_key

__all__ = ["Scorer", "read_sequences"]

Logits = npt.NDArray[np.float32]


class Scorer(Protocol):
    """What computes the steps."""

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        num_scored: Sequence[int],
        adapters: Sequence[ChosenAdapter] = (),
    ) -> Logits:
        """Logits [sum of num_scored, vocab] after the last `num_scored` tokens of each sequence."""


class _Reading:
    """One sequence on its way."""

    def __init__(self, index: int, ids: Sequence[int], first: int, pool: KvBlockPool, salt: bytes) -> None:
        self.index, self.ids, self.first = index, ids, first
        self.blocks: list[int] = []
        self.num_cached = 0
        self.keys: list[bytes] = []
        if pool.keeps_prefixes:
            size = pool.block_tokens
            for begin in range(0, len(ids) - size + 1, size):
                parent = self.keys[-1] if self.keys else root_key(salt)
                self.keys.append(block_key(parent, ids[begin : begin + size]))
        self.num_sharable = min(first // pool.block_tokens, len(self.keys))

    @property
    def num_pending(self) -> int:
        return len(self.ids) - self.num_cached


def read_sequences(
    scorer: Scorer,
    pool: KvBlockPool,
    limits: StepLimits,
    sequences: Sequence[Sequence[int]],
    firsts: Sequence[int],
    seen: Callable[[int, int, Logits], None],
    salt: bytes = b"",
    adapters: Sequence[ChosenAdapter] = (),
) -> None:
    """Compute sequences, and hand over the logits behind each token from a position on.

    Args:
        scorer: computes steps.
        pool: enough of it must be available for the longest sequence.
        limits: of a step.
        sequences: token ids, at least one each.
        firsts: for each sequence the first position whose logits are wanted.
        seen: called with the index of a sequence, a position, and the logits [rows, vocab] behind the tokens
            from there on; once or several times for each sequence, in the order of positions.
        salt: sequences share beginnings with those of the same salt.
        adapters: of all of them; beginnings are shared with those of the same ones.
    """
    salt = adapter_salt(adapters, salt)
    waiting = [
        _Reading(index, ids, first, pool, salt)
        for index, (ids, first) in enumerate(zip(sequences, firsts, strict=True))
    ]
    active: list[_Reading] = []
    try:
        while waiting or active:
            waiting = _admit(waiting, active, pool, limits)
            _step(scorer, pool, active, limits.max_step_tokens, seen, adapters)
            for reading in active:
                if not reading.num_pending:
                    pool.release(reading.blocks)
            active = [reading for reading in active if reading.num_pending]
    except BaseException:
        for reading in active:
            pool.release(reading.blocks)
        raise


def _admit(
    waiting: Sequence[_Reading], active: list[_Reading], pool: KvBlockPool, limits: StepLimits
) -> list[_Reading]:
    """Give blocks to those that can begin now; returns the others."""
    room = limits.max_step_tokens - sum(reading.num_pending for reading in active)
    coming = {key for reading in active for key in reading.keys[reading.num_cached // pool.block_tokens :]}
    for position, reading in enumerate(waiting):
        if active and (room <= 0 or len(active) >= limits.max_sequences):
            return [*_held_back(waiting[:position], active), *waiting[position:]]
        sharable = reading.keys[: reading.num_sharable]
        shared = pool.find(sharable)
        if len(shared) < len(sharable) and sharable[len(shared)] in coming:
            continue
        count = pool.blocks_for(len(reading.ids)) - len(shared)
        if active and not pool.can_allocate(count, shared):
            return [*_held_back(waiting[:position], active), *waiting[position:]]
        pool.share(shared)
        reading.blocks = shared + pool.allocate(count)
        reading.num_cached = len(shared) * pool.block_tokens
        active.append(reading)
        coming.update(reading.keys[len(shared) :])
        room -= reading.num_pending
    return _held_back(waiting, active)


def _held_back(passed: Sequence[_Reading], active: Sequence[_Reading]) -> list[_Reading]:
    begun = {reading.index for reading in active}
    return [reading for reading in passed if reading.index not in begun]


def _step(
    scorer: Scorer,
    pool: KvBlockPool,
    active: Sequence[_Reading],
    budget: int,
    seen: Callable[[int, int, Logits], None],
    adapters: Sequence[ChosenAdapter],
) -> None:
    pieces: list[tuple[_Reading, int, int]] = []  # tokens of it, and how many of them are scored
    for reading in active:
        count = min(reading.num_pending, budget)
        if count:
            end = reading.num_cached + count
            pieces.append((reading, count, max(0, end - max(reading.first, reading.num_cached))))
            budget -= count
    logits = scorer.score(
        [one.ids[one.num_cached : one.num_cached + count] for one, count, _ in pieces],
        [one.num_cached for one, _, _ in pieces],
        [one.blocks for one, _, _ in pieces],
        [scored for _, _, scored in pieces],
        adapters,
    )
    row = 0
    for reading, count, scored in pieces:
        published = reading.num_cached // pool.block_tokens
        reading.num_cached += count
        for block in range(published, min(reading.num_cached // pool.block_tokens, len(reading.keys))):
            pool.publish(reading.blocks[block], reading.keys[block])
        if scored:
            seen(reading.index, reading.num_cached - scored, logits[row : row + scored])
            row += scored
