"""The block pool: free + owned = all, whatever is asked of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.engine.kv_blocks import KvBlockPool, pool_size


def test_lowest_blocks_first_so_that_untouched_memory_stays_untouched() -> None:
    pool = KvBlockPool(num_blocks=6, block_tokens=16)
    first, second = pool.allocate(2), pool.allocate(2)
    assert (first, second) == ([0, 1], [2, 3])
    pool.release(first)
    assert pool.allocate(3) == [0, 1, 4]


def test_asking_for_too_much_takes_nothing() -> None:
    pool = KvBlockPool(num_blocks=3, block_tokens=16)
    pool.allocate(2)
    with pytest.raises(RuntimeError, match="asked for 2 KV blocks, 1 of 3"):
        pool.allocate(2)
    assert (pool.num_free, pool.num_owned) == (1, 2)


@pytest.mark.parametrize("wrong", [[0, 0], [2], [0, 99]])
def test_a_wrong_release_changes_nothing(wrong: list[int]) -> None:
    pool = KvBlockPool(num_blocks=3, block_tokens=16)
    pool.allocate(2)
    with pytest.raises(RuntimeError, match="owned once"):
        pool.release(wrong)
    assert (pool.num_free, pool.num_owned) == (1, 2)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_blocks_for(tokens: int, blocks: int) -> None:
    assert KvBlockPool(4, 16).blocks_for(tokens) == blocks


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_every_block_is_free_or_owned_by_one(moves: list[tuple[bool, int]]) -> None:
    pool = KvBlockPool(num_blocks=8, block_tokens=4)
    held: list[list[int]] = []
    for take, count in moves:
        if take and count <= pool.num_free:
            held.append(pool.allocate(count))
        elif held:
            pool.release(held.pop(count % len(held)))
        owned = [block for blocks in held for block in blocks]
        assert len(set(owned)) == len(owned) == pool.num_owned
        assert pool.num_free + pool.num_owned == pool.num_blocks


@pytest.mark.parametrize(
    ("memory_bytes", "blocks"),
    [
        (1 << 40, 16 * 8),  # everything that may run at once
        (4 * 100 * 1000, 100),  # a quarter of the memory
        (0, 8),  # one context, come what may
    ],
)
def test_the_pool_is_what_may_run_at_once_within_the_memory(memory_bytes: int, blocks: int) -> None:
    assert pool_size(8, max_sequences=16, block_bytes=1000, memory_bytes=memory_bytes) == blocks
