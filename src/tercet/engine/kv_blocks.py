"""Which blocks of the key/value cache are free, and which are owned.

The cache is one array of `num_blocks` blocks of `block_tokens` positions (PagedAttention, Kwon et al. 2023,
section 4); a sequence owns a list of blocks, in the order of its positions. This pool only counts: it holds
no memory. Its law: every block is either free or owned by exactly one holder, so `num_free + num_owned ==
num_blocks` after every call. Breaking it is a bug of the engine, never of a user, hence RuntimeError.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from tercet.engine.memory import total_memory_bytes


def pool_size(
    blocks_per_context: int, max_sequences: int, block_bytes: int, memory_bytes: int | None = None
) -> int:
    """Blocks for all contexts that may run at once, within a quarter of the memory; at least one context.

    Blocks cost address space until they are used. `memory_bytes` is what the process may use by default.
    """
    memory = total_memory_bytes() if memory_bytes is None else memory_bytes
    affordable = (memory or 0) // 4 // block_bytes
    return max(blocks_per_context, min(blocks_per_context * max_sequences, affordable))


class KvBlockPool:
    """Hands out block ids, lowest first, so that memory never needed is never touched."""

    def __init__(self, num_blocks: int, block_tokens: int) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self._free = list(range(num_blocks))  # an ascending list is already a heap
        self._owned: set[int] = set()

    @property
    def num_free(self) -> int:
        """Blocks that nobody owns."""
        return len(self._free)

    @property
    def num_owned(self) -> int:
        """Blocks handed out and not yet released."""
        return len(self._owned)

    def blocks_for(self, num_tokens: int) -> int:
        """Number of blocks that `num_tokens` positions fill, the last one perhaps in part."""
        return -(-num_tokens // self.block_tokens)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks; RuntimeError, with nothing taken, when fewer are free."""
        if count > len(self._free):
            raise RuntimeError(
                f"asked for {count} KV blocks, {len(self._free)} of {self.num_blocks} are free"
            )
        blocks = [heapq.heappop(self._free) for _ in range(count)]
        self._owned.update(blocks)
        return blocks

    def release(self, blocks: Iterable[int]) -> None:
        """Give blocks back; RuntimeError, with nothing released, unless each is owned and named once."""
        returned = list(blocks)
        if len(set(returned)) != len(returned) or not self._owned.issuperset(returned):
            raise RuntimeError(f"KV blocks {returned} released, but not all of them are owned once")
        self._owned.difference_update(returned)
        for block in returned:
            heapq.heappush(self._free, block)
