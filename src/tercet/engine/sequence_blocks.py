"""How a sequence comes by its blocks of the cache, and what it leaves for others.

It takes all blocks that it could ever need before its first step: nobody has to be evicted, and nothing can
deadlock. Those of its beginning that others have computed already it shares, to read them; the others
it fills, and publishes each when it is full.
"""

from __future__ import annotations

from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.request import Request

__all__ = ["publish_blocks", "release_blocks", "take_blocks"]


def take_blocks(pool: KvBlockPool, request: Request) -> bool:
    """Give a request its blocks, the known beginning of its prompt among them; False when they are too few.

    The last token of the prompt is always computed: what follows is drawn from its logits.
    """
    num_full = (len(request.prompt_ids) - 1) // pool.block_tokens if pool.keeps_prefixes else 0
    shared = pool.find(request.prefix_keys(num_full, pool.block_tokens))
    count = pool.blocks_for(request.max_cached) - len(shared)
    if not pool.can_allocate(count, shared):
        return False
    pool.share(shared)
    request.blocks = shared + pool.allocate(count)
    request.num_published = len(shared)
    request.num_cached = request.num_reused = len(shared) * pool.block_tokens
    return True


def publish_blocks(pool: KvBlockPool, request: Request) -> None:
    """Let others read the blocks that have become full. All tokens in the cache must be known by now."""
    num_full = request.num_cached // pool.block_tokens
    if pool.keeps_prefixes and num_full > request.num_published:
        keys = request.prefix_keys(num_full, pool.block_tokens)
        for index in range(request.num_published, num_full):
            pool.publish(request.blocks[index], keys[index])
        request.num_published = num_full


def release_blocks(pool: KvBlockPool, request: Request) -> None:
    """Take a request's blocks back."""
    blocks, request.blocks = request.blocks, []
    pool.release(blocks)
