"""How a sequence comes by its blocks of the cache, and what it leaves for others.

It begins with blocks for the tokens that are known: its prompt, and what it had generated before it was
preempted. Those of its beginning that others (or itself) have computed already it shares, to read them; the
others it fills, and publishes each when it is full. For every token more it takes another block when it
needs one.
"""

from __future__ import annotations

from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.request import Request

__all__ = ["extend_blocks", "publish_blocks", "reads_what_is_missing", "release_blocks", "take_blocks"]


def take_blocks(pool: KvBlockPool, request: Request, num_tokens: int, spare: int = 0) -> bool:
    """Give a request its first blocks, the known beginning of its tokens among them.

    The last token that is known is always computed: what follows is drawn from its logits.

    Args:
        pool: the blocks.
        request: one that owns none.
        num_tokens: positions that the blocks must hold, at least those of the known tokens.
        spare: how many blocks must be left for others.

    Returns:
        False, with nothing taken, when they are too few.
    """
    shared = pool.find(_sharable_keys(pool, request))
    count = pool.blocks_for(num_tokens) - len(shared)
    if not pool.can_allocate(count + spare, shared):
        return False
    pool.share(shared)
    request.blocks = shared + pool.allocate(count)
    request.num_published = len(shared)
    request.num_cached = len(shared) * pool.block_tokens
    return True


def reads_what_is_missing(pool: KvBlockPool, request: Request, other: Request) -> bool:
    """Say whether another request, which runs, is about to fill the block that is the first to be missing."""
    keys = _sharable_keys(pool, request)
    missing = len(pool.find(keys))
    others = other.num_tokens // pool.block_tokens
    return other.num_published <= missing < min(len(keys), others) and (
        other.prefix_keys(missing + 1, pool.block_tokens)[missing] == keys[missing]
    )


def _sharable_keys(pool: KvBlockPool, request: Request) -> list[bytes]:
    """Names of the blocks that a request could take over; its last token is computed in any case."""
    num_full = (request.num_tokens - 1) // pool.block_tokens if pool.keeps_prefixes else 0
    return request.prefix_keys(num_full, pool.block_tokens)


def extend_blocks(pool: KvBlockPool, request: Request, num_tokens: int) -> bool:
    """Give a request as many blocks more as this many positions need; False when they are too few."""
    missing = pool.blocks_for(num_tokens) - len(request.blocks)
    if missing > pool.num_available:
        return False
    if missing > 0:
        request.blocks += pool.allocate(missing)
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
    """Take a request's blocks back; nothing of it is in the cache from now on."""
    blocks, request.blocks = request.blocks, []
    request.num_cached = request.num_published = 0
    pool.release(blocks)
