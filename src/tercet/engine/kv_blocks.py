"""Which blocks of the key/value cache are free, which are owned, and which are kept for another time.

The memory is one array of `num_blocks` blocks of `block_tokens` positions (PagedAttention, Kwon et al. 2023,
section 4); a sequence owns a list of blocks, in the order of its positions. This pool only counts: it holds
no memory. A block is one of three:

    free      nothing worth keeping
    owned     by one sequence that writes it, or by any number that only read it
    cached    owned by nobody, but published: its tokens are known by name (`tercet.engine.prefix_index`)

`num_free + num_owned + num_cached == num_blocks` after every call. Who needs memory takes free blocks first,
then the cached ones that were used longest ago. Breaking these laws is a bug of the engine, never of a
user, hence RuntimeError.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from tercet.engine.memory import total_memory_bytes
from tercet.engine.prefix_index import PrefixIndex


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
    """Hands out block ids, lowest first, so that memory never needed is never touched.

    Args:
        num_blocks: blocks of the cache.
        block_tokens: positions in a block.
        keeps_prefixes: whether sequences publish their blocks for others.
    """

    def __init__(self, num_blocks: int, block_tokens: int, keeps_prefixes: bool = False) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self.keeps_prefixes = keeps_prefixes
        self.clear()

    def clear(self) -> None:
        """Forget everything: all blocks are free, whoever held them. For a new beginning after a fault."""
        self._free = list(range(self.num_blocks))  # an ascending list is already a heap
        self._owners: dict[int, int] = {}  # how many hold a block
        self._cached: OrderedDict[int, None] = OrderedDict()  # the one used longest ago comes first
        self._index = PrefixIndex()

    @property
    def num_free(self) -> int:
        """Blocks with nothing in them."""
        return len(self._free)

    @property
    def num_owned(self) -> int:
        """Blocks handed out and not yet released by all who hold them."""
        return len(self._owners)

    @property
    def num_cached(self) -> int:
        """Published blocks that nobody holds."""
        return len(self._cached)

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` could hand out."""
        return len(self._free) + len(self._cached)

    def blocks_for(self, num_tokens: int) -> int:
        """Number of blocks that `num_tokens` positions fill, the last one perhaps in part."""
        return -(-num_tokens // self.block_tokens)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks to write into; RuntimeError, with nothing taken, when fewer are available."""
        if count > self.num_available:
            raise RuntimeError(
                f"asked for {count} KV blocks, {self.num_available} of {self.num_blocks} are available"
            )
        while len(self._free) < count:
            block, _ = self._cached.popitem(last=False)
            self._index.forget(block)
            heapq.heappush(self._free, block)
        blocks = [heapq.heappop(self._free) for _ in range(count)]
        self._owners.update(dict.fromkeys(blocks, 1))
        return blocks

    def release(self, blocks: Iterable[int]) -> None:
        """Give blocks back; RuntimeError, with nothing released, unless each is owned and named once.

        Published ones stay cached, the first of them longest: a beginning is of use to more than an end.
        """
        returned = list(blocks)
        if len(set(returned)) != len(returned) or not self._owners.keys() >= set(returned):
            raise RuntimeError(f"KV blocks {returned} released, but not all of them are owned once")
        for block in reversed(returned):
            self._owners[block] -= 1
            if self._owners[block]:
                continue
            del self._owners[block]
            if block in self._index:
                self._cached[block] = None
            else:
                heapq.heappush(self._free, block)

    def publish(self, block: int, key: bytes) -> None:
        """Name an owned block that is full, for others to read; from now on nobody may write it.

        Nothing happens where another block has this name: this one then ends with its owner.
        """
        if block not in self._owners:
            raise RuntimeError(f"KV block {block} published, but nobody owns it")
        self._index.add(key, block)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """Published blocks of the longest known beginning of a chain of keys; nothing is taken yet."""
        return self._index.find(keys)

    def can_allocate(self, count: int, shared: Sequence[int] = ()) -> bool:
        """Whether `count` blocks would be left after these published ones had been shared."""
        return count + sum(block in self._cached for block in shared) <= self.num_available

    def share(self, blocks: Sequence[int]) -> None:
        """Own published blocks, to read them, beside whoever owns them already."""
        if not all(block in self._index for block in blocks):
            raise RuntimeError(f"KV blocks {list(blocks)} shared, but not all of them are published")
        for block in blocks:
            self._cached.pop(block, None)
            self._owners[block] = self._owners.get(block, 0) + 1
