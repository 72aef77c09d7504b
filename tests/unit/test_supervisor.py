"""Engines that die, and what takes their place."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, make_request
from tercet.engine.async_engine import AsyncEngine
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.mock import EngineDeath, Faults, MockRunner
from tercet.engine.plan import StepLimits
from tercet.errors import UnavailableError
from tercet.service.pool import ModelPool
from tercet.service.supervisor import MOST_DEATHS, WITHIN_SECONDS, Supervisor


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def engine_of(faults: Faults) -> AsyncEngine:
    runner = MockRunner(CountingRunner(), faults)
    pool = KvBlockPool(64, BLOCK_TOKENS, keeps_prefixes=True)
    return AsyncEngine(Engine(runner, pool, StepLimits(64, 2)))


def supervisor_of(engine: AsyncEngine) -> tuple[Supervisor, Clock]:
    model = types.SimpleNamespace(name="one", engine=engine)
    clock = Clock()
    return Supervisor(cast(ModelPool, types.SimpleNamespace(models=[model])), clock), clock


async def dies(engine: AsyncEngine) -> None:
    with pytest.raises(UnavailableError, match="has stopped"):
        async for _ in engine.submit(make_request([1, 2, 3], max_tokens=50)):
            pass
    while engine.is_alive:
        await asyncio.sleep(0.001)


async def answers(engine: AsyncEngine, prompt: list[int]) -> list[int]:
    return [token async for event in engine.submit(make_request(prompt)) for token in event.token_ids]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_nothing_of_the_dead_remains() -> None:
    async def test() -> None:
        engine = engine_of(Faults(die_at_step=5, delay_seconds=0.02))
        await engine.start()
        others = [engine.submit(make_request([number] * 9, max_tokens=50)) for number in range(1, 8)]
        await dies(engine)
        for other in others:
            with pytest.raises(UnavailableError, match="has stopped"):
                async for _ in other:
                    pass
        assert isinstance(engine.failure, EngineDeath)
        with pytest.raises(UnavailableError):
            engine.submit(make_request([1]))
        await engine.restart()
        assert (engine.is_alive, engine.num_restarts) == (True, 1)
        assert await answers(engine, [4, 4]) == expected([4, 4], 5)
        stats = engine.stats()
        assert (stats.started, stats.failed, stats.finished) == (9, 8, 1)
        await engine.stop(0)
        assert (engine.engine.pool.num_owned, engine.num_running, engine.num_waiting) == (0, 0, 0)

    run(test)


def test_a_fault_between_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of the scheduler, half-way through a plan: the queues are in no state that could be trusted."""

    async def test() -> None:
        engine = engine_of(Faults())
        await engine.start()
        with monkeypatch.context() as patch:
            patch.setattr(engine.engine._scheduler, "commit", lambda *_: 1 // 0)
            await dies(engine)
        await engine.restart()
        assert await answers(engine, [1, 2, 3]) == expected([1, 2, 3], 5)
        await engine.stop(0)
        assert engine.engine.pool.num_owned == 0

    run(test)


def test_an_engine_that_lives_or_was_stopped_is_left_alone() -> None:
    async def test() -> None:
        engine = engine_of(Faults(die_at_step=2))
        await engine.restart()
        assert not engine.is_alive
        await engine.start()
        await engine.restart()
        assert engine.num_restarts == 0
        await dies(engine)
        await engine.stop(0)
        await engine.restart()
        assert (engine.is_alive, engine.num_restarts) == (False, 0)

    run(test)


def test_the_first_restart_is_at_once_and_the_pauses_double() -> None:
    async def test() -> None:
        engine = engine_of(Faults(die_from_step=3))
        supervisor, clock = supervisor_of(engine)
        await engine.start()
        begin = clock.now
        for death, pause in enumerate((0.0, 0.5, 1.0, 2.0), 1):
            await dies(engine)
            await supervisor.look()
            clock.now += max(pause - 0.01, 0)
            await supervisor.look()
            assert engine.num_restarts == death - (pause > 0)
            clock.now += 0.02
            await supervisor.look()
            assert engine.num_restarts == death
            assert "being restarted" in supervisor.prospect(engine)
        await dies(engine)
        for _ in range(3):
            await supervisor.look()
            clock.now += WITHIN_SECONDS
        assert engine.num_restarts == MOST_DEATHS - 1
        assert "restart the process" in supervisor.prospect(engine)
        assert begin < clock.now
        await engine.stop(0)

    run(test)


def test_deaths_of_long_ago_do_not_count() -> None:
    async def test() -> None:
        engine = engine_of(Faults(die_from_step=3))
        supervisor, clock = supervisor_of(engine)
        await engine.start()
        for death in range(1, 2 * MOST_DEATHS):
            await dies(engine)
            await supervisor.look()
            assert engine.num_restarts == death
            clock.now += WITHIN_SECONDS
        await engine.stop(0)

    run(test)
