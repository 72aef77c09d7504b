"""Beginnings that are in the cache are not computed again, whoever comes when, and no token changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, finish, make_request
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.prefix_index import PrefixIndex, block_key, root_key
from tercet.engine.result import result_of


def make_engine(num_blocks: int = 64, limits: StepLimits | None = None) -> tuple[Engine, CountingRunner]:
    runner = CountingRunner()
    return Engine(runner, KvBlockPool(num_blocks, BLOCK_TOKENS, keeps_prefixes=True), limits), runner


def test_the_second_time_only_the_end_is_computed() -> None:
    engine, runner = make_engine()
    for _ in range(2):
        request = make_request(list(range(10)), max_tokens=2)
        engine.submit(request)
        finish(engine, request)
        assert request.generated_ids == expected(list(range(10)), 2)
    assert runner.steps == [[10], [1], [2], [1]]
    result = result_of(request, {})
    assert (result.cache_hit, result.cached_tokens) == (True, 8)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    engine, runner = make_engine()
    for _ in range(2):
        request = make_request([1, 2, 3, 4, 5, 6, 7, 8], max_tokens=1)
        engine.submit(request)
        finish(engine, request)
    assert runner.steps == [[8], [4]]


def test_an_answer_is_the_beginning_of_the_next_prompt() -> None:
    engine, runner = make_engine()
    request = make_request([1, 2, 3], max_tokens=6)
    engine.submit(request)
    finish(engine, request)
    longer = make_request([*request.prompt_ids, *request.generated_ids, 5], max_tokens=1)
    engine.submit(longer)
    finish(engine, longer)
    assert longer.num_reused == 8  # 8 of the first 8 positions; the last answer was never fed back
    assert runner.steps[-1] == [2]
    assert longer.generated_ids == expected(longer.prompt_ids, 1)


def test_who_comes_while_the_other_still_runs_shares_its_blocks() -> None:
    engine, _ = make_engine(num_blocks=6)
    first = make_request([1, 2, 3, 4, 5], max_tokens=12)  # 2 blocks to begin with
    engine.submit(first)
    engine.advance(first)
    second = make_request([1, 2, 3, 4, 6], max_tokens=8)  # 2 blocks, of which one is shared
    engine.submit(second)
    engine.advance(second)
    assert second.blocks[0] == first.blocks[0]
    assert engine.pool.num_owned == 3
    finish(engine, first, second)
    assert first.generated_ids == expected([1, 2, 3, 4, 5], 12)
    assert second.generated_ids == expected([1, 2, 3, 4, 6], 8)
    assert engine.pool.num_owned == 0


def test_other_salts_meet_nobody() -> None:
    engine, runner = make_engine()
    for salt in (b"one", b"two", b"one"):
        request = make_request([1, 2, 3, 4, 5], max_tokens=1)
        request.cache_salt = salt
        engine.submit(request)
        finish(engine, request)
    assert runner.steps == [[5], [5], [1]]


def test_a_pool_that_keeps_nothing() -> None:
    runner = CountingRunner()
    engine = Engine(runner, KvBlockPool(8, BLOCK_TOKENS))
    for _ in range(2):
        request = make_request([1, 2, 3, 4, 5], max_tokens=1)
        engine.submit(request)
        finish(engine, request)
    assert runner.steps == [[5], [5]]
    assert engine.pool.num_free == 8


def test_a_failed_step_publishes_nothing_of_it() -> None:
    runner = CountingRunner(fail_on=666)
    engine = Engine(runner, KvBlockPool(8, BLOCK_TOKENS, keeps_prefixes=True))
    bad = make_request([1, 2, 3, 4, 666], max_tokens=1)
    engine.submit(bad)
    engine.advance(bad)
    assert engine.pool.num_free == 8


def test_names_are_chains() -> None:
    root = root_key()
    assert block_key(root, [1, 2]) != block_key(root, [2, 1])
    assert block_key(block_key(root, [1]), [2]) != block_key(block_key(root, [3]), [2])
    assert block_key(root, [1]) != block_key(root_key(b"salt"), [1])
    assert block_key(root, [1]) == block_key(root_key(), (1,))


def test_the_index_names_each_block_once() -> None:
    index = PrefixIndex()
    index.add(b"a", 3)
    index.add(b"a", 4)
    index.add(b"b", 3)
    assert (len(index), 3 in index, 4 in index) == (1, True, False)
    assert (index.find([b"a", b"b"]), index.find([b"b", b"a"])) == ([3], [])
    index.forget(3)
    assert (len(index), index.find([b"a"])) == (0, [])


@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=14), min_size=1, max_size=8),
    budget=st.integers(1, 12),
    num_blocks=st.integers(5, 16),
    together=st.booleans(),
)
def test_tokens_do_not_depend_on_what_is_kept(
    prompts: list[list[int]], budget: int, num_blocks: int, together: bool
) -> None:
    """Prompts of two tokens share beginnings all the time, in a cache that is too small for all."""
    engine, runner = make_engine(num_blocks, StepLimits(budget, 3))
    requests = [make_request(prompt, max_tokens=6) for prompt in prompts]
    for request in requests:
        engine.submit(request)
        if not together:
            finish(engine, request)
    finish(engine, *requests)
    for request in requests:
        assert request.generated_ids == expected(request.prompt_ids, 6)
    computed = sum(map(sum, runner.steps))
    reused = sum(request.num_reused for request in requests)
    once = sum(len(request.prompt_ids) + 5 for request in requests)
    assert once <= computed + reused <= once + engine.stats().recomputed_tokens
    pool = engine.pool
    assert pool.num_owned == 0
    assert pool.num_free + pool.num_cached == num_blocks
