"""One thread steps, any number of tasks read: nobody waits for another, and nobody waits without end."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, make_request
from tercet.engine import async_engine
from tercet.engine.async_engine import AsyncEngine, RequestStream, TokenEvent
from tercet.engine.engine import Engine, Logits
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits
from tercet.errors import ContextLengthError, DeadlineError, OverloadedError, UnavailableError


class GatedRunner(CountingRunner):
    """Computes a step whenever the test lets it."""

    def __init__(self, is_open: bool = True) -> None:
        super().__init__()
        self.seconds = 0.0
        self.entered = threading.Event()
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        self.entered.set()
        if not self.gate.wait(10):
            raise TimeoutError("the test left the gate closed")
        time.sleep(self.seconds)
        return super().run(chunks)


@asynccontextmanager
async def serving(runner: CountingRunner | None = None, **limits: Any) -> AsyncIterator[AsyncEngine]:
    pool = KvBlockPool(64, BLOCK_TOKENS, keeps_prefixes=True)
    engine = AsyncEngine(Engine(runner or GatedRunner(), pool, StepLimits(64, 2)), **limits)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(0)
    assert not engine.is_alive
    assert pool.num_owned == 0


async def read(stream: RequestStream) -> list[TokenEvent]:
    return [event async for event in stream]


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_many_streams_at_once() -> None:
    async def test() -> None:
        async with serving() as engine:
            requests = [make_request([1, 2, one], max_tokens=7) for one in range(6)]
            streams = [engine.submit(request) for request in requests]
            for request, events in zip(requests, await asyncio.gather(*map(read, streams)), strict=True):
                tokens = [token for event in events for token in event.token_ids]
                assert tokens == expected(request.prompt_ids, 7)
                assert "".join(event.text for event in events) == request.output.text  # type: ignore[union-attr]
                assert request.finish_reason == "length"
                assert all(one.at <= two.at for one, two in itertools.pairwise(events))
            assert (engine.num_running, engine.num_waiting, engine.num_queued_tokens) == (0, 0, 0)

    run(test)


def test_what_cannot_be_held_is_refused_and_leaves_nothing() -> None:
    async def test() -> None:
        async with serving() as engine:
            with pytest.raises(ContextLengthError):
                engine.submit(make_request([1] * 300))
            assert engine.num_waiting == 0

    run(test)


def test_an_error_comes_behind_the_events() -> None:
    async def test() -> None:
        async with serving(CountingRunner(fail_on=666)) as engine:
            with pytest.raises(MemoryError):
                await read(engine.submit(make_request([666])))
            assert len(await read(engine.submit(make_request([1])))) == 5

    run(test)


def test_cancelling_takes_one_step() -> None:
    async def test() -> None:
        runner = GatedRunner()
        async with serving(runner) as engine:
            request = make_request([1, 2], max_tokens=200)
            stream = engine.submit(request)
            await anext(stream)
            runner.gate.clear()
            await asyncio.sleep(0.01)  # a step may be past the gate: the next one is not
            num_steps = len(runner.steps)
            engine.cancel(request)
            runner.gate.set()
            await read(stream)
            assert request.finish_reason == "cancelled"
            assert len(runner.steps) <= num_steps + 1

    run(test)


def test_a_full_queue_says_when_to_come_back() -> None:
    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner, max_queued_requests=2) as engine:
            running = [engine.submit(make_request([1]))]
            await asyncio.to_thread(runner.entered.wait, 10)
            # Of the two that may run, one does; who takes the other place with the next step does not count.
            waiting = [engine.submit(make_request([one])) for one in (3, 4, 6)]
            with pytest.raises(OverloadedError, match="2 requests wait, of at most 2") as caught:
                engine.submit(make_request([5]))
            assert 1 <= caught.value.retry_after_seconds <= 60
            assert (engine.num_running, engine.num_waiting, engine.num_queued_tokens) == (1, 3, 3)
            assert engine.stats().rejected == 1
            runner.gate.set()
            await asyncio.gather(*map(read, running + waiting))

    run(test)


def test_tokens_that_wait_are_limited_but_one_prompt_may_always_wait() -> None:
    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner, max_queued_tokens=10) as engine:
            streams = [engine.submit(make_request([1]))]
            await asyncio.to_thread(runner.entered.wait, 10)
            streams.append(engine.submit(make_request([3] * 30)))
            with pytest.raises(OverloadedError, match="30 tokens of prompts wait"):
                engine.submit(make_request([4]))
            runner.gate.set()
            await asyncio.gather(*map(read, streams))

    run(test)


def test_who_does_not_read_loses_the_request_and_the_others_go_on() -> None:
    async def test() -> None:
        runner = GatedRunner()
        runner.seconds = 0.002
        async with serving(runner, max_buffered_events=120) as engine:
            lazy, keen = make_request([1], max_tokens=200), make_request([2], max_tokens=200)
            unread = engine.submit(lazy)
            assert len(await read(engine.submit(keen))) == 200
            await until(lambda: lazy.finished)
            assert len(lazy.generated_ids) <= 122
            read_late = [await anext(unread) for _ in lazy.generated_ids]
            assert [token for event in read_late for token in event.token_ids] == lazy.generated_ids
            with pytest.raises(DeadlineError, match="left 120 events"):
                await anext(unread)

    run(test)


def test_the_loop_is_free_while_a_step_computes() -> None:
    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner) as engine:
            first = engine.submit(make_request([1]))
            await asyncio.to_thread(runner.entered.wait, 10)
            begin = time.monotonic()
            second = engine.submit(make_request([2]))
            engine.cancel(second.request)
            assert engine.stats().rejected == 0
            assert time.monotonic() - begin < 1  # the step goes on until the gate opens
            runner.gate.set()
            await read(first)
            await read(second)
            assert second.request.finish_reason == "cancelled"

    run(test)


def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    async def test() -> None:
        async with serving() as engine:
            stream = engine.submit(make_request([1], max_tokens=50))
            stopping = asyncio.create_task(engine.stop(10))
            await asyncio.sleep(0)
            with pytest.raises(UnavailableError):
                engine.submit(make_request([2]))
            assert len(await read(stream)) == 50
            await stopping

    run(test)


def test_what_does_not_finish_in_time_ends_with_an_error() -> None:
    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner) as engine:
            stream = engine.submit(make_request([1], max_tokens=50))
            await asyncio.to_thread(runner.entered.wait, 10)
            asyncio.get_running_loop().call_later(0.1, runner.gate.set)
            await engine.stop(0.05)
            with pytest.raises(UnavailableError, match="the engine stops"):
                await read(stream)

    run(test)


def test_a_step_that_hangs_holds_up_neither_the_end_nor_the_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_engine, "STOP_SECONDS", 0.1)

    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner) as engine:
            stream = engine.submit(make_request([1]))
            await asyncio.to_thread(runner.entered.wait, 10)
            await engine.stop(0)
            with pytest.raises(UnavailableError, match="the engine stops"):
                await read(stream)
            with pytest.raises(UnavailableError):
                engine.submit(make_request([1]))
            runner.gate.set()
            await until(lambda: stream.request.finished)

    run(test)


def test_an_engine_may_start_again() -> None:
    async def test() -> None:
        async with serving() as engine:
            await engine.stop(0)
            await engine.start()
            assert len(await read(engine.submit(make_request([1])))) == 5

    run(test)


def test_what_is_counted() -> None:
    async def test() -> None:
        async with serving() as engine:
            first = engine.submit(make_request([1, 2, 3, 4, 5]))
            await read(first)
            await read(engine.submit(make_request([1, 2, 3, 4, 6])))
            cancelled = engine.submit(make_request([1], max_tokens=200))
            engine.cancel(cancelled.request)
            await read(cancelled)
            request = first.request
            times = (request.submitted_at, request.started_at, request.first_token_at, request.finished_at)
            assert sorted(times) == list(times)  # type: ignore[type-var]
            await engine.stop(0)
            stats = engine.stats()
            assert (stats.started, stats.finished, stats.aborted) == (3, 2, 1)
            assert (stats.prefix_queries >= 10, stats.prefix_hits) == (True, 4)
            assert stats.generated_tokens >= 10
            assert sum(stats.step_sizes.values()) == stats.steps >= 10
            assert stats.busy_seconds > 0

    run(test)


def test_the_estimate_follows_the_speed_and_the_queue() -> None:
    async def test() -> None:
        runner = GatedRunner()
        runner.seconds = 0.02
        async with serving(runner, max_queued_requests=20) as engine:
            await asyncio.gather(
                *[read(engine.submit(make_request([one], max_tokens=10))) for one in range(4)]
            )
            runner.gate.clear()
            runner.entered.clear()
            # 44 tokens took 20 steps of 0.02 seconds and more: 110 tokens/s at best. Answers had 10 tokens.
            streams = [engine.submit(make_request([one] * 40, max_tokens=150)) for one in range(22)]
            with pytest.raises(OverloadedError) as caught:
                engine.submit(make_request([1]))
            assert 3 < caught.value.retry_after_seconds <= 60  # 20 * 50 / 2 tokens: 4.5 seconds
            for stream in streams:
                engine.cancel(stream.request)
            runner.gate.set()

    run(test)


def test_everybody_is_accounted_for_whatever_they_do() -> None:
    async def visit(engine: AsyncEngine, number: int, dice: random.Random) -> str:
        request = make_request([dice.randint(0, 1) for _ in range(dice.randint(1, 20))], dice.randint(1, 30))
        request.priority, request.tenant = dice.randint(0, 2), dice.choice("ab")
        if dice.random() < 0.2:
            request.deadline = engine.engine.clock() + dice.random() / 20
        await asyncio.sleep(dice.random() / 5)
        patience = dice.choice([1000, 1000, 3])
        ids: list[int] = []
        try:
            async for event in engine.submit(request):
                ids += event.token_ids
                if len(ids) > patience:
                    engine.cancel(request)
                if dice.random() < 0.01:
                    await asyncio.sleep(0.05)
        except OverloadedError:
            return "rejected"
        except DeadlineError:
            return "failed"
        assert ids == request.generated_ids == expected(request.prompt_ids, len(ids))
        return "aborted" if request.finish_reason == "cancelled" else "finished"

    async def test() -> None:
        pool = KvBlockPool(24, BLOCK_TOKENS, keeps_prefixes=True)
        engine = AsyncEngine(Engine(GatedRunner(), pool, StepLimits(16, 4)), max_queued_requests=40)
        await engine.start()
        dice = random.Random(5)
        ends = await asyncio.gather(*[visit(engine, number, dice) for number in range(400)])
        await engine.stop(5)
        stats = engine.stats()
        counted = Counter(finished=stats.finished, aborted=stats.aborted)
        counted.update(failed=stats.failed, rejected=stats.rejected)
        assert counted == Counter(ends)
        assert stats.started == counted.total() == 400
        assert all(counted.values())
        assert stats.preemptions > 0
        assert (stats.owned_blocks, stats.free_blocks + stats.cached_blocks) == (0, 24)

    run(test)


def test_ticks_go_on_without_work_and_stop_in_a_step_that_hangs() -> None:
    async def test() -> None:
        runner = GatedRunner(is_open=False)
        async with serving(runner) as engine:
            assert engine.tick_age_seconds < 2
            stream = engine.submit(make_request([1], max_tokens=1))
            await asyncio.to_thread(runner.entered.wait, 10)
            await asyncio.sleep(0.1)
            assert engine.tick_age_seconds >= 0.1
            runner.gate.set()
            await read(stream)
            assert engine.tick_age_seconds < 2

    run(test)


def test_a_bug_of_the_engine_is_everybodys_end_and_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving() as engine:
            monkeypatch.setattr(engine.engine, "step", lambda: 1 // 0)
            with pytest.raises(UnavailableError, match="has stopped"):
                await read(engine.submit(make_request([1])))
            assert not engine.is_alive
            assert isinstance(engine.failure, ZeroDivisionError)
            with pytest.raises(UnavailableError):
                engine.submit(make_request([1]))

    run(test)


def test_others_may_use_the_engine_too() -> None:
    async def test() -> None:
        async with serving() as engine:
            streams = [engine.submit(make_request([one], max_tokens=40)) for one in range(3)]
            direct = make_request([9], max_tokens=40)
            await asyncio.to_thread(engine.engine.complete, [direct])
            assert direct.generated_ids == expected([9], 40)
            assert (await asyncio.to_thread(engine.engine.score, [1, 2, 3])).ravel().tolist() == [1, 3, 6]
            for stream in streams:
                assert sum(len(event.token_ids) for event in await read(stream)) == 40

    run(test)
