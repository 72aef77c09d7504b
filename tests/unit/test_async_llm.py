"""`AsyncLLM`: many requests of one program, each with its id and its own fate."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tercet import LLM, AsyncLLM, TextRequest
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    ParameterError,
    UnavailableError,
)

GREEDY = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def asked(prompt: Any = "Once upon a time", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, **GREEDY, **more}


@pytest.fixture
def make(tiny_model_file: Path) -> Callable[..., AsyncLLM]:
    return lambda **options: AsyncLLM(str(tiny_model_file), threads=1, **options)


def slow(llm: AsyncLLM, seconds: float = 0.02) -> None:
    engine = llm._service.pool.get().engine.engine
    step = engine.step

    def slower() -> bool:
        time.sleep(seconds)
        return step()

    engine.step = slower  # type: ignore[method-assign]


def test_a_response_has_the_text_and_what_it_took(
    make: Callable[..., AsyncLLM], tiny_model_file: Path
) -> None:
    with LLM(tiny_model_file, threads=1) as plain:
        expected = plain.generate("Once upon a time", **GREEDY, top_p=0.9)

    async def work() -> None:
        async with make() as llm:
            response = await llm.generate(asked(metadata={"page": 3}))
            assert (response.text, response.token_ids) == (expected.text, expected.token_ids)
            assert (response.id, response.success, response.error_message) == ("req_0", True, None)
            assert (response.finish_reason, response.request_metadata) == ("length", {"page": 3})
            told = response.metadata
            assert told["tokens_generated"] == 8
            assert told["tokens_per_second"] == pytest.approx(8 / told["generation_time"])
            assert 0 < told["time_to_first_token"] < told["generation_time"]
            assert told["cache_hit"] is False
            again = await llm.generate(asked(id="mine"))
            assert (again.id, again.text, again.metadata["cache_hit"]) == ("mine", expected.text, True)
            typed = await llm.generate(TextRequest(prompt="Once", sampling={"seed": 7}, max_tokens=3))
            assert (typed.metadata["seed"], typed.id) == (7, "req_2")

    run(work())


def test_the_defaults_are_as_told() -> None:
    request = TextRequest(prompt="a")
    assert (request.max_tokens, request.temperature, request.top_p, request.stream) == (256, 0.7, 0.9, False)
    params = request.params()
    assert params.explicit == {"max_tokens", "temperature", "top_p"}


def test_the_first_request_initializes_and_a_closed_object_says_so(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        llm = make()
        assert llm.models() == []
        assert (await llm.health_check())["status"] == "loading"
        first, second = await asyncio.gather(llm.generate(asked()), llm.generate(asked("A dog")))
        assert first.success
        assert second.success
        assert llm.models() == ["tiny"]
        await llm.initialize()
        await llm.close()
        with pytest.raises(UnavailableError, match="has been closed"):
            await llm.generate(asked())

    run(work())


def test_initializing_again_after_a_failure_may_succeed(tiny_model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"

    async def work() -> None:
        llm = AsyncLLM(str(path), threads=1)
        with pytest.raises(ModelNotFoundError):
            await llm.initialize()
        shutil.copy(tiny_model_file, path)
        await llm.initialize()
        assert (await llm.generate(asked())).success
        await llm.close()

    run(work())


def test_a_batch_keeps_order_and_ids_and_one_failure_is_its_own(make: Callable[..., AsyncLLM]) -> None:
    requests: list[Any] = [
        asked(),
        asked(id="second", metadata={"n": 2}),
        asked([10**9]),
        asked(temprature=1),
        asked(temperature=-1, id="cold"),
        "no request",
        {"id": "empty"},
        asked("x " * 100),
        asked(model="none"),
        asked("A dog", stream=True),
        TextRequest(messages=[{"role": "user", "content": "Hello"}], temperature=0, max_tokens=4),
    ]

    async def work() -> None:
        async with make(max_concurrent=3) as llm:
            responses = await llm.generate_batch(requests)
            assert [one.success for one in responses] == [True, True, *[False] * 7, True, True]
            ids = ["req_0", "second", "req_2", "req_3", "cold", "req_5", "empty", "req_7", "req_8", "req_9"]
            assert [one.id for one in responses] == [*ids, "req_10"]
            assert responses[1].request_metadata == {"n": 2}
            messages = [one.error_message or "" for one in responses]
            for place, words in {
                2: "1000000000",
                3: "no temprature; it may have",
                4: "temperature is a finite number",
                5: "a TextRequest or a dictionary, not str",
                6: "neither",
                7: "the prompt has",
                8: "there is no model 'none'",
            }.items():
                assert words in messages[place]
            assert responses[7].error_type == "ContextLengthError"
            assert await llm.generate_batch([]) == []
            counts = llm.metrics()
            assert counts["successful_requests"] == 4
            assert counts["requests_in_flight"] == 0

    run(work())


def test_no_more_than_may_run_at_once(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        async with make(max_concurrent=3, max_queued_requests=1, response_cache=None) as llm:
            slow(llm)
            engine = llm._service.pool.get().engine
            running: set[int] = set()

            async def watch() -> None:
                while True:
                    running.add(engine.num_running)
                    await asyncio.sleep(0.005)

            watching = asyncio.ensure_future(watch())
            responses = await llm.generate_batch([asked() for _ in range(12)])
            watching.cancel()
            assert max(running) == 3
            assert all(one.success for one in responses)  # the batch never overfills its own queue
            jobs = [llm.generate(asked()) for _ in range(12)]
            done = await asyncio.gather(*jobs, return_exceptions=True)
            refused = [one for one in done if isinstance(one, OverloadedError)]
            assert refused
            assert all(one.retry_after_seconds > 0 for one in refused)

    run(work())


def test_a_prompt_beyond_the_limit_is_an_error_and_never_cut() -> None:
    async def work() -> None:
        async with AsyncLLM(max_prompt_tokens=10) as llm:
            with pytest.raises(ContextLengthError, match="11 tokens, and at most 10 are taken here"):
                await llm.generate({"prompt": [5] * 11})
            assert (await llm.generate({"prompt": [5] * 10, "max_tokens": 1})).success

    run(work())


def test_the_limit_is_2048_tokens_and_30_seconds_and_10_at_once() -> None:
    settings = AsyncLLM()._settings
    assert (settings.max_prompt_tokens, settings.timeout_seconds, settings.max_concurrent) == (2_048, 30, 10)


def test_a_request_that_takes_too_long_is_an_error_and_others_go_on(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        async with make(timeout_seconds=10) as llm:
            slow(llm, 0.05)
            requests = [asked("A"), asked("B", timeout_seconds=0.1), asked("C")]
            responses = await llm.generate_batch(requests)
            assert [one.success for one in responses] == [True, False, True]
            assert responses[1].error_type == "DeadlineError"
            with pytest.raises(DeadlineError):
                await llm.generate(asked("D", timeout_seconds=0.1))

    run(work())


def test_a_stream_is_the_text_in_pieces(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        async with make(response_cache=None) as llm:
            stream = await llm.stream(asked(id="s", stream=True))
            with pytest.raises(ParameterError, match="has not ended"):
                stream.response  # noqa: B018
            pieces = [piece async for piece in stream]
            assert len(pieces) > 1
            assert all(pieces)
            whole = await llm.generate(asked())
            assert "".join(pieces) == whole.text == stream.response.text
            assert (stream.response.id, stream.response.finish_reason) == ("s", "length")
            slow(llm)
            other = await llm.stream(asked(max_tokens=50))
            await other.__anext__()
            await other.aclose()
            assert other.response.finish_reason == "cancelled"
            with pytest.raises(ParameterError, match="use stream"):
                await llm.generate(asked(stream=True))

    run(work())


def test_cancelling_a_call_ends_what_it_began(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        async with make(response_cache=None) as llm:
            slow(llm)
            engine = llm._service.pool.get().engine
            jobs = [
                asyncio.create_task(llm.generate(asked(max_tokens=50))),
                asyncio.create_task(llm.generate_batch([asked(max_tokens=50) for _ in range(4)])),
            ]
            while engine.num_running < 5:
                await asyncio.sleep(0.005)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            while engine.num_running:
                await asyncio.sleep(0.005)
            assert llm.metrics()["cancelled_requests"] == 5

    run(work())


def test_models_come_go_and_change(make: Callable[..., AsyncLLM], tiny_model_file: Path) -> None:
    async def work() -> None:
        async with make(models={"other": str(tiny_model_file)}) as llm:
            assert llm.models() == ["tiny", "other"]
            await llm.load("third", str(tiny_model_file))
            assert (await llm.generate(asked(model="third"))).metadata["model"] == "third"
            await llm.reload("third")
            await llm.unload("third")
            with pytest.raises(ModelNotFoundError):
                await llm.generate(asked(model="third"))

    run(work())


def test_health_and_metrics_have_every_figure_that_was_promised(make: Callable[..., AsyncLLM]) -> None:
    async def work() -> None:
        async with make() as llm:
            await llm.generate_batch([asked(), asked(), asked([10**9])])
            health = await llm.health_check()
            assert health["status"] == "healthy"
            assert {
                *("status", "model_loaded", "tokenizer_loaded", "cache_enabled", "max_concurrent_requests"),
                *("response_time_ms", "quantization", "metrics"),
            } <= set(health)
            assert health["metrics"].keys() == llm.metrics().keys()
            metrics = llm.metrics()
            assert (metrics["total_requests"], metrics["successful_requests"]) == (3, 2)
            assert (metrics["failed_requests"], metrics["success_rate"]) == (1, pytest.approx(2 / 3))
            for name in (
                *("average_generation_time", "requests_per_second", "average_tokens_per_second"),
                *("total_tokens_generated", "cache_size", "resident_memory_bytes"),
            ):
                assert (metrics[name] or 0) > 0, name

    run(work())


def test_the_log_is_there_when_it_is_asked_for(
    make: Callable[..., AsyncLLM], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tercet.log"

    async def work() -> None:
        async with make(log_file=str(file)) as llm:
            await llm.generate(asked("xyzzy", id="logged"))
        async with make() as llm:
            await llm.generate(asked())

    run(work())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["request_id"] for line in lines if line["event"] == "request finished"] == ["logged"]
    assert "xyzzy" not in file.read_text()
    assert capfd.readouterr().err == ""


WITHOUT_EXTRAS = """
import asyncio, sys
for name in ("cachetools", "structlog", "prometheus_client", "redis", "llguidance", "fastapi", "pydantic"):
    sys.modules[name] = None
from tercet import AsyncLLM
from tercet.errors import MissingExtraError

async def work():
    async with AsyncLLM(response_cache=None) as llm:
        response = await llm.generate({"prompt": "Once", "max_tokens": 3})
        print(response.success, (await llm.health_check())["status"])
    redis, log = {"response_cache": "redis://localhost"}, {"response_cache": None, "log_level": "info"}
    for options in ({}, redis, log):
        try:
            await AsyncLLM(**options).initialize()
        except MissingExtraError as error:
            print(error)

asyncio.run(work())
"""


def test_without_the_extra_it_works_but_for_what_the_extra_is_for() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *missing = done.stdout.splitlines()
    assert first == "True healthy"
    assert [re.findall(r"package (\w+),.*(tercet\[\w+\])", line) for line in missing] == [
        [("cachetools", "tercet[server]")],
        [("cachetools", "tercet[server]")],
        [("structlog", "tercet[server]")],
    ]
