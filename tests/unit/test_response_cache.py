"""Who asks the same again gets the same, from wherever it was kept, and never what another asked."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tercet import SamplingParams
from tercet.errors import ParameterError, StorageError
from tercet.sampling.constraints import ConstraintSpec
from tercet.service.cache_stores import MemoryStore, SqliteStore, open_store
from tercet.service.redis_store import RedisStore
from tercet.service.request import GenerationRequest
from tercet.service.response_cache import CacheStore
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

GREEDY = SamplingParams(temperature=0, ignore_eos=True, max_tokens=8, logprobs=2)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


@contextlib.asynccontextmanager
async def served(path: Path, where: str | None = "memory", **changes: Any) -> AsyncIterator[Service]:
    settings = ServiceSettings(
        models={"tiny": str(path)}, llm={"threads": 1}, response_cache=where, **changes
    )
    async with Service(settings) as service:
        yield service


async def answered(service: Service, prompt: Any = "Once", **more: Any) -> Any:
    request = GenerationRequest(prompt=prompt, params=more.pop("params", GREEDY), **more)
    generation = await service.submit(request)
    result = await generation.result()
    if service.cache is not None:
        await service.cache.settle()
    return result


# What is remembered ------------------------------------------------------------------------------------


def test_the_second_answer_is_the_first_and_costs_no_step(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with served(tiny_model_file) as service:
            first = await answered(service)
            steps = service.pool.get().engine.stats().steps
            generation = await service.submit(GenerationRequest(prompt="Once", params=GREEDY, id="again"))
            events = [event async for event in generation]
            second = await generation.result()
            assert service.pool.get().engine.stats().steps == steps
            assert (first.response_cached, second.response_cached) == (False, True)
            for name in ("text", "token_ids", "finish_reason", "prompt_tokens", "logprobs"):
                assert getattr(second, name) == getattr(first, name), name
            assert "".join(event.text for event in events) == first.text
            assert [one for event in events for one in event.logprobs] == first.logprobs
            assert second.metadata["sampling"] == first.metadata["sampling"]
            assert second.generation_time_seconds > 0
            assert (generation.request.id, generation.outcome) == ("again", "length")
            counts = service.metrics.summary()
            assert (counts["cache_hits"], counts["cache_misses"], counts["cache_size"]) == (1, 1, 1)
            assert counts["total_tokens_generated"] == 8  # the model made them once
            rows = {name: value for name, labels, value in service.metrics.samples() if labels}
            assert rows["tercet_response_cache_hits_total"] == 1

    run(work())


def test_only_what_would_come_out_the_same_is_remembered(tiny_model_file: Path) -> None:
    warm = SamplingParams(temperature=2.0, max_tokens=8, ignore_eos=True)
    seeded = SamplingParams(temperature=2.0, max_tokens=8, ignore_eos=True, seed=5)

    async def work() -> None:
        async with served(tiny_model_file) as service:
            for params, hits in ((warm, False), (seeded, True), (GREEDY, True)):
                first = await answered(service, params=params)
                second = await answered(service, params=params)
                assert second.response_cached is hits
                assert not hits or second.text == first.text
            assert not (await answered(service, use_cache=False)).response_cached
            other = dataclasses.replace(seeded, seed=6)
            assert not (await answered(service, params=other)).response_cached
            # The seed of a greedy request changes nothing.
            greedy = SamplingParams(temperature=0, ignore_eos=True, max_tokens=8, logprobs=2, seed=6)
            assert (await answered(service, params=greedy)).response_cached

    run(work())


def test_anything_that_could_change_the_answer_is_another_entry(tiny_model_file: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"prompt": "Twice"},
        {"prompt": [5, 6]},
        {"tenant": "b"},
        {"cache_salt": b"b"},
        {"constraint": ConstraintSpec("regex", "[a-z ]*")},
        {"constraint": ConstraintSpec("regex", "[A-Z ]*")},
    ]
    changes: list[dict[str, Any]] = [
        {"max_tokens": 7},
        {"stop": ("q",)},
        {"logprobs": 1},
        {"logit_bias": {7: 5}},
        {"min_tokens": 2},
        {"repetition_penalty": 1.1},
    ]
    variants += [{"params": dataclasses.replace(GREEDY, **change)} for change in changes]

    async def work() -> None:
        async with served(tiny_model_file) as service:
            for variant in variants:
                assert not (await answered(service, **variant)).response_cached, variant
            for variant in variants:
                assert (await answered(service, **variant)).response_cached, variant

    run(work())


def test_another_file_under_the_same_name_is_another_model(tiny_model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"
    shutil.copy(tiny_model_file, path)

    async def work() -> None:
        async with served(path) as service:
            await answered(service)
            assert (await answered(service)).response_cached
            time.sleep(0.01)
            shutil.copy(tiny_model_file, path)
            await service.pool.reload("tiny")
            assert not (await answered(service)).response_cached

    run(work())


def test_what_was_cancelled_is_not_remembered(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with served(tiny_model_file) as service:
            generation = await service.submit(GenerationRequest(prompt="Once", params=GREEDY))
            await generation.__anext__()
            await generation.cancel()
            assert not (await answered(service)).response_cached

    run(work())


def test_without_a_cache_nothing_is_remembered(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with served(tiny_model_file, None) as service:
            await answered(service)
            assert not (await answered(service)).response_cached
            report = await service.health.report()
            assert (report["cache_enabled"], report["metrics"]["cache_size"]) == (False, 0)

    run(work())


# Where -------------------------------------------------------------------------------------------------


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own, without a disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("the program redis-server is missing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                    break
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


StoreMaker = Callable[..., CacheStore]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    if request.param == "memory":
        return MemoryStore
    if request.param == "sqlite":
        return lambda *bounds, clock: SqliteStore(tmp_path / "cache.sqlite", *bounds, clock=clock)
    url = request.getfixturevalue("redis_url")
    return lambda *bounds, clock: RedisStore(url, *bounds, clock=clock)


def test_a_store_keeps_bytes_up_to_its_bounds(make_store: StoreMaker) -> None:
    async def work() -> None:
        clock = Clock()
        store = make_store(3, 50.0, clock=clock)
        await store.clear()
        assert (await store.count(), await store.get("a")) == (0, None)
        for key in "abc":
            await store.put(key, key.encode() * 2)
            clock.now += 1
        assert [await store.get(key) for key in "abc"] == [b"aa", b"bb", b"cc"]
        await store.put("b", b"new")
        await store.put("d", b"\x00\xff")
        assert await store.count() == 3
        assert [await store.get(key) for key in "abd"] == [None, b"new", b"\x00\xff"]
        await store.clear()
        assert (await store.count(), await store.get("b")) == (0, None)
        await store.close()

    run(work())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_entries_expire(kind: str, tmp_path: Path) -> None:
    async def work() -> None:
        clock = Clock()
        store: CacheStore = (
            MemoryStore(9, 50.0, clock=clock)
            if kind == "memory"
            else SqliteStore(tmp_path / "cache.sqlite", 9, 50.0, clock=clock)
        )
        await store.put("a", b"1")
        clock.now += 49
        assert await store.get("a") == b"1"
        clock.now += 2
        assert await store.get("a") is None
        await store.put("b", b"2")
        assert await store.count() == 1
        await store.close()

    run(work())


def test_entries_expire_in_redis(redis_url: str) -> None:
    async def work() -> None:
        store = RedisStore(redis_url, 9, 0.1)
        await store.put("a", b"1")
        assert await store.get("a") == b"1"
        await asyncio.sleep(0.15)
        assert (await store.get("a"), await store.count()) == (None, 0)
        await store.close()

    run(work())


def test_a_memory_store_is_bounded_in_bytes() -> None:
    async def work() -> None:
        store = MemoryStore(100, 60.0, max_bytes=100)
        for number in range(9):
            await store.put(str(number), bytes(30))
        assert await store.count() == 3
        await store.put("large", bytes(101))
        assert await store.get("large") is None

    run(work())


def test_a_file_outlives_the_process_and_several_may_share_it(tiny_model_file: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "responses.sqlite")

    async def work() -> None:
        async with served(tiny_model_file, file) as service:
            first = await answered(service)
            async with served(tiny_model_file, file) as other:
                assert other.metrics.summary()["cache_size"] == 1
                second = await answered(other)
                assert (second.response_cached, second.text) == (True, first.text)
        async with served(tiny_model_file, file) as service:
            assert (await answered(service)).response_cached

    run(work())


def test_servers_that_share_redis_share_answers(tiny_model_file: Path, redis_url: str) -> None:
    async def work() -> None:
        async with served(tiny_model_file, redis_url) as one, served(tiny_model_file, redis_url) as other:
            first = await answered(one)
            second = await answered(other)
            assert (second.response_cached, second.text) == (True, first.text)

    run(work())


def test_a_redis_that_is_gone_costs_hits_and_no_answers(
    tiny_model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"

    async def work() -> None:
        async with served(tiny_model_file, url) as service:
            begin = time.monotonic()
            for _ in range(3):
                assert not (await answered(service)).response_cached
            assert time.monotonic() - begin < 5
            assert service.cache is not None
            assert service.cache.num_errors >= 3

    run(work())
    assert [one.message for one in caplog.records if one.name == "tercet.cache"] == [
        "the response cache fails; the model answers instead"
    ]


def test_a_damaged_file_costs_hits_and_no_answers(tiny_model_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.sqlite"

    async def work() -> None:
        async with served(tiny_model_file, str(file)) as service:
            await answered(service)
            with contextlib.closing(sqlite3.connect(file)) as database:
                database.execute("UPDATE responses SET value = x'00ff'")
                database.commit()
            result = await answered(service)
            assert (result.response_cached, result.generated_tokens) == (False, 8)

    run(work())


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE things (a)")
    with pytest.raises(ParameterError, match=r"another program or version .* tables things"):
        open_store(str(other), 1, 1)
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(StorageError, match="file is not a database"):
        open_store(str(text), 1, 1)
    with pytest.raises(StorageError, match="unable to open"):
        open_store(str(tmp_path / "none" / "file"), 1, 1)
    with pytest.raises(ParameterError, match="does not name a database of Redis"):
        open_store("redis://localhost:port", 1, 1)
