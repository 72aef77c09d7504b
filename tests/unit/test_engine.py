"""Planning and the engine's bookkeeping, over a runner that is pure arithmetic on positions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, finish, make_request
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits, plan_step
from tercet.engine.request import Request
from tercet.engine.result import result_of
from tercet.engine.stream import TextStream
from tercet.errors import ContextLengthError, ParameterError


def make_engine(
    num_blocks: int = 64, limits: StepLimits | None = None, runner: CountingRunner | None = None
) -> tuple[Engine, CountingRunner]:
    ticks = itertools.count(1.0)
    runner = runner or CountingRunner()
    return Engine(runner, KvBlockPool(num_blocks, BLOCK_TOKENS), limits, clock=lambda: next(ticks)), runner


def test_one_request_from_prompt_to_result() -> None:
    engine, runner = make_engine()
    request = make_request([1, 2, 3])
    engine.submit(request)
    finish(engine, request)
    result = result_of(request, {"model": "sums"})
    assert result.token_ids == expected([1, 2, 3], 5) == [6, 12, 24, 48, 96]
    assert (result.text, result.finish_reason) == ("6 12 24 48 96 ", "length")
    assert (result.prompt_tokens, result.generated_tokens) == (3, 5)
    assert runner.steps == [[3], [1], [1], [1], [1]]
    # The clock ticked at submission (1), and at the beginning and the end of each of the five steps.
    assert (result.time_to_first_token_seconds, result.generation_time_seconds) == (2.0, 10.0)
    assert result.tokens_per_second == 0.5
    assert result.metadata["decode_tokens_per_second"] == 0.5
    assert result.metadata["seed"] == 1
    assert engine.pool.num_free == 64


def test_the_end_token_ends_and_is_not_part_of_the_answer() -> None:
    engine, _ = make_engine()
    request = make_request([1, 2, 3], eos=24)
    engine.submit(request)
    finish(engine, request)
    result = result_of(request, {})
    assert (result.token_ids, result.finish_reason) == ([6, 12], "stop")
    assert result.metadata["stop_token_id"] == 24


def test_a_stop_string_across_tokens_ends() -> None:
    engine, _ = make_engine()
    request = make_request([1, 2, 3], stop=("2 24",))
    engine.submit(request)
    finish(engine, request)
    result = result_of(request, {})
    assert (result.text, result.finish_reason) == ("6 1", "stop")
    assert result.metadata["stop_string"] == "2 24"


def test_long_prompts_come_in_chunks_beside_those_who_generate() -> None:
    engine, runner = make_engine(limits=StepLimits(max_step_tokens=4))
    short, long = make_request([5], max_tokens=6), make_request(list(range(10)), max_tokens=2)
    engine.submit(short)
    engine.advance(short)
    engine.submit(long)
    finish(engine, short, long)
    assert runner.steps[:5] == [[1], [1, 3], [1, 3], [1, 3], [1, 1]]
    assert short.generated_ids == expected([5], 6)
    assert long.generated_ids == expected(list(range(10)), 2)


def test_who_does_not_fit_waits_and_who_loses_its_memory_comes_back() -> None:
    engine, _ = make_engine(num_blocks=5)
    requests = [make_request([one, 2, 3, 4, 5], max_tokens=8) for one in range(5)]  # 2 blocks each, then 3
    for request in requests:
        engine.submit(request)
    finish(engine, *requests)
    assert [request.generated_ids for request in requests] == [
        expected(request.prompt_ids, 8) for request in requests
    ]
    assert engine.pool.num_free == 5
    assert engine.stats().preemptions > 0


def test_what_can_never_fit_is_refused() -> None:
    engine, _ = make_engine(num_blocks=2)
    with pytest.raises(ContextLengthError, match="may need 9 tokens of context and the KV cache holds 8"):
        engine.submit(make_request([1] * 5, max_tokens=5))


def test_cancelling_frees_memory_and_the_others_go_on() -> None:
    engine, _ = make_engine()
    one, two = make_request([1, 2]), make_request([3, 4])
    engine.submit(one)
    engine.submit(two)
    engine.advance(one)
    owned = engine.pool.num_owned
    engine.cancel(one)
    assert one.finish_reason == "cancelled"
    assert engine.pool.num_owned < owned
    finish(engine, two)
    assert two.generated_ids == expected([3, 4], 5)


def test_one_failure_is_not_everybodys() -> None:
    engine, _ = make_engine(runner=CountingRunner(fail_on=666))
    bad = make_request([666])
    engine.submit(bad)
    engine.advance(bad)
    with pytest.raises(MemoryError):
        engine.raise_error(bad)
    good = make_request([1])
    engine.submit(good)
    finish(engine, good)
    assert good.generated_ids == expected([1], 5)
    assert engine.pool.num_owned == 0


def test_scoring_waits_for_memory_and_gives_it_back() -> None:
    engine, _ = make_engine(num_blocks=4, limits=StepLimits(max_step_tokens=3))
    request = make_request([1, 2, 3, 4, 5], max_tokens=8)
    engine.submit(request)
    engine.advance(request)
    assert engine.score([1] * 9).ravel().tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # 3 blocks
    assert request.finished
    assert engine.pool.num_free == 4


def test_a_stream_gives_what_generate_gives() -> None:
    engine, _ = make_engine()
    request = make_request([1, 2, 3])
    engine.submit(request)
    stream = TextStream(engine, request, "sums")
    with pytest.raises(ParameterError, match="not ended"):
        _ = stream.result
    assert list(stream) == ["6 ", "12 ", "24 ", "48 ", "96 "]
    assert stream.result.text == "6 12 24 48 96 "


def test_a_dropped_stream_stops_at_the_next_step() -> None:
    engine, _ = make_engine()
    request = make_request([1, 2, 3], max_tokens=50)
    engine.submit(request)
    stream = TextStream(engine, request, "sums")
    assert next(stream) == "6 "
    del stream
    engine.advance(request)
    assert request.finish_reason == "cancelled"
    assert engine.pool.num_owned == 0


def test_a_closed_stream_keeps_what_it_has() -> None:
    engine, _ = make_engine()
    request = make_request([1, 2, 3], max_tokens=50)
    engine.submit(request)
    with TextStream(engine, request, "sums") as stream:
        next(stream)
        next(stream)
    assert (stream.result.text, stream.result.finish_reason) == ("6 12 ", "cancelled")
    assert engine.pool.num_owned == 0


@given(
    prompts=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    budget=st.integers(1, 12),
    sequences=st.integers(1, 4),
    num_blocks=st.integers(7, 20),
)
def test_tokens_do_not_depend_on_company(
    prompts: list[int], budget: int, sequences: int, num_blocks: int
) -> None:
    engine, runner = make_engine(num_blocks, StepLimits(budget, sequences))
    requests = [make_request(list(range(one, one + one)), max_tokens=7) for one in prompts]
    for request in requests:
        engine.submit(request)
    finish(engine, *requests)
    for request in requests:
        assert request.generated_ids == expected(request.prompt_ids, 7)
    assert all(sum(step) <= budget and len(step) <= sequences for step in runner.steps)
    assert engine.pool.num_owned == 0


def test_planning_changes_nothing() -> None:
    running = [make_request([1, 2, 3]), make_request([4])]
    first = plan_step(running, StepLimits())
    assert first == plan_step(running, StepLimits())
    assert first == (Chunk(running[1], 1, samples=True), Chunk(running[0], 3, samples=True))
    assert [request.num_cached for request in running] == [0, 0]


def test_everybodys_token_comes_before_guesses_and_those_before_prompts() -> None:
    one, two, prompt = make_request([1]), make_request([2]), make_request([3] * 9)
    one.proposed_ids, two.proposed_ids = [5, 6, 7], [8, 9]

    def sizes(budget: int) -> list[tuple[int, int]]:
        plan = plan_step([one, two, prompt], StepLimits(budget))
        return [(chunk.num_tokens, chunk.num_proposed) for chunk in plan]

    assert sizes(1) == [(1, 0)]
    assert sizes(2) == [(1, 0), (1, 0)]
    assert sizes(4) == [(3, 2), (1, 0)]
    assert sizes(9) == [(4, 3), (3, 2), (2, 0)]


def test_beside_who_generates_prompts_get_a_quarter() -> None:
    one, prompt = make_request([1]), make_request([3] * 1000)

    def sizes(budget: int, running: list[Request]) -> list[int]:
        return [chunk.num_tokens for chunk in plan_step(running, StepLimits(budget))]

    assert sizes(512, [prompt]) == [512]
    assert sizes(512, [one, prompt]) == [1, 128]
    assert sizes(128, [one, prompt]) == [1, 64]
    assert sizes(32, [one, prompt]) == [1, 31]
