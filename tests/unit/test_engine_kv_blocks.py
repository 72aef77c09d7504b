"""The block pool: free + owned + cached = all, whatever is asked of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    with pytest.raises(RuntimeError, match="asked for 2 KV blocks, 1 of 3 are available"):
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


def test_published_blocks_outlive_their_owner_until_memory_is_needed() -> None:
    pool = KvBlockPool(num_blocks=4, block_tokens=16)
    blocks = pool.allocate(3)
    for block, key in zip(blocks, (b"a", b"b"), strict=False):
        pool.publish(block, key)
    pool.release(blocks)
    assert (pool.num_free, pool.num_cached, pool.num_available) == (2, 2, 4)
    assert pool.find([b"a", b"b", b"c"]) == [0, 1]
    assert pool.find([b"b"]) == [1]  # the caller's keys are a chain, the table need not know
    assert pool.allocate(3) == [1, 2, 3]  # free ones first, then the end of what was kept
    assert pool.find([b"a", b"b"]) == [0]
    assert pool.allocate(1) == [0]
    assert pool.find([b"a"]) == []


def test_readers_share_and_the_last_one_gives_back() -> None:
    pool = KvBlockPool(num_blocks=2, block_tokens=16)
    [block] = pool.allocate(1)
    pool.publish(block, b"a")
    pool.share([block])
    pool.release([block])
    assert (pool.num_owned, pool.num_cached) == (1, 0)
    assert not pool.can_allocate(2)
    pool.release([block])
    assert (pool.num_owned, pool.num_cached) == (0, 1)
    assert pool.can_allocate(2)
    assert not pool.can_allocate(2, shared=[block])  # it would not be available any more


def test_the_block_used_longest_ago_goes_first() -> None:
    pool = KvBlockPool(num_blocks=2, block_tokens=16)
    for key in (b"a", b"b"):
        [block] = pool.allocate(1)
        pool.publish(block, key)
        pool.release([block])
    pool.share([0])
    pool.release([0])
    pool.allocate(1)
    assert (pool.find([b"a"]), pool.find([b"b"])) == ([0], [])


def test_a_second_block_of_the_same_name_ends_with_its_owner() -> None:
    pool = KvBlockPool(num_blocks=2, block_tokens=16)
    first, second = pool.allocate(2)
    pool.publish(first, b"a")
    pool.publish(second, b"a")
    pool.publish(first, b"b")  # a block keeps the name that it has
    pool.release([first, second])
    assert (pool.find([b"a"]), pool.find([b"b"]), pool.num_free) == ([first], [], 1)


def test_only_owned_blocks_are_published_and_only_published_ones_shared() -> None:
    pool = KvBlockPool(num_blocks=2, block_tokens=16)
    with pytest.raises(RuntimeError, match="nobody owns it"):
        pool.publish(0, b"a")
    pool.allocate(1)
    with pytest.raises(RuntimeError, match="not all of them are published"):
        pool.share([0])


class PoolMachine(RuleBasedStateMachine):
    """Sequences come, share what has the same name, publish, and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = KvBlockPool(num_blocks=6, block_tokens=4)
        self.held: list[list[int]] = []

    @rule(keys=st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=3), count=st.integers(0, 4))
    def take(self, keys: list[bytes], count: int) -> None:
        shared = list(dict.fromkeys(self.pool.find(keys)))
        if self.pool.can_allocate(count, shared):
            self.pool.share(shared)
            fresh = self.pool.allocate(count)
            assert not set(fresh) & {block for blocks in self.held for block in blocks}
            assert not set(fresh) & set(shared)
            self.held.append(shared + fresh)

    @precondition(lambda self: any(self.held))
    @rule(data=st.data(), key=st.sampled_from([b"a", b"b", b"c"]))
    def publish(self, data: st.DataObject, key: bytes) -> None:
        block = data.draw(st.sampled_from([block for blocks in self.held for block in blocks]))
        self.pool.publish(block, key)

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 100))
    def release(self, index: int) -> None:
        self.pool.release(self.held.pop(index % len(self.held)))

    @invariant()
    def every_block_is_free_or_owned_or_cached(self) -> None:
        pool = self.pool
        assert pool.num_free + pool.num_owned + pool.num_cached == pool.num_blocks
        assert pool.num_owned == len({block for blocks in self.held for block in blocks})


TestPoolLaws = PoolMachine.TestCase
