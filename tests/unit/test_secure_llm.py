"""`SecureLLM`: limits and filters around a model in one's own program, client by client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tercet import LLM, SecureLLM, SecurityConfig
from tercet.errors import (
    ContentFilteredError,
    GenerationError,
    InvalidInputError,
    ParameterError,
    RateLimitError,
    SecurityError,
    UnavailableError,
)
from tercet.service.guard import Quota

GREEDY = {"temperature": 0, "max_tokens": 4, "ignore_eos": True}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def make(tiny_model_file: Path) -> Callable[..., SecureLLM]:
    def make(**security: Any) -> SecureLLM:
        return SecureLLM(str(tiny_model_file), security=SecurityConfig(**security), threads=1)

    return make


def test_an_answer_is_that_of_the_model(make: Callable[..., SecureLLM], tiny_model_file: Path) -> None:
    with LLM(tiny_model_file, threads=1) as plain:
        expected = plain.generate("Once upon a time", **GREEDY, top_p=0.9).text

    async def work() -> None:
        async with make() as llm:
            response = await llm.secure_generate("Once upon a time", "a", **GREEDY)
            assert response.text == expected
            pieces = [piece async for piece in llm.secure_stream("Once upon a time", "a", **GREEDY)]
            assert "".join(pieces) == expected

    run(work())


def test_each_client_has_its_minute(make: Callable[..., SecureLLM]) -> None:
    async def work() -> None:
        async with make(rate_limit_requests_per_minute=2) as llm:
            for _ in range(2):
                await llm.secure_generate("Once", "a", **GREEDY)
            with pytest.raises(RateLimitError) as refused:
                await llm.secure_generate("Once", "a", **GREEDY)
            assert refused.value.code == "RATE_LIMIT_EXCEEDED"
            assert 1 <= refused.value.retry_after <= 60
            with pytest.raises(RateLimitError):
                _ = [piece async for piece in llm.secure_stream("Once", "a", **GREEDY)]
            await llm.secure_generate("Once", "b", **GREEDY)
            for _ in range(3):
                await llm.secure_generate("Once", "c", quota=Quota(requests_per_minute=3), **GREEDY)

    run(work())


def test_tokens_are_paid_before_they_are_made(make: Callable[..., SecureLLM]) -> None:
    async def work() -> None:
        async with make(rate_limit_tokens_per_minute=30) as llm:
            await llm.secure_generate("Once", "a", max_tokens=20)
            with pytest.raises(RateLimitError, match="30 tokens"):
                await llm.secure_generate("Once", "a", max_tokens=20)
            with pytest.raises(InvalidInputError, match="30 in a minute"):
                await llm.secure_generate("Once", "a", max_tokens=31)

    run(work())


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "x" * 4097},
        {"messages": [{"role": "user", "content": "x" * 4097}]},
        {"prompt": "x", "max_tokens": 1025},
        {"prompt": "x", "stop": ["1", "2", "3", "4", "5"]},
        {"prompt": "x\x00y"},
        {"prompt": "x\ud800y"},
        {"prompt": "x", "client_id": ""},
        {"prompt": "x", "client_id": "x" * 257},
    ],
)
def test_what_is_over_a_limit_is_refused(make: Callable[..., SecureLLM], asked: dict[str, Any]) -> None:
    async def work() -> None:
        async with make() as llm:
            with pytest.raises(InvalidInputError) as refused:
                await llm.secure_generate(**{"client_id": "a", **asked})
            assert refused.value.code == "INVALID_INPUT"
            assert isinstance(refused.value, SecurityError)

    run(work())


def test_a_prompt_that_the_filters_keep_out(make: Callable[..., SecureLLM]) -> None:
    prompt = "This content contains harmful and dangerous information"

    async def work() -> None:
        async with make() as llm:
            with pytest.raises(ContentFilteredError) as refused:
                await llm.secure_generate(prompt, "a", **GREEDY)
            assert refused.value.code == "CONTENT_FILTERED"
        async with make(enable_content_filtering=False) as llm:
            assert (await llm.secure_generate(prompt, "a", **GREEDY)).success

    run(work())


def test_a_fault_of_ours_is_a_generation_error(make: Callable[..., SecureLLM]) -> None:
    async def work() -> None:
        async with make() as llm:
            engine = llm._llm._service.pool.get().engine.engine
            engine.runner.run = lambda chunks: 1 / 0  # type: ignore[method-assign]
            with pytest.raises(GenerationError) as failed:
                await llm.secure_generate("Once", "a", **GREEDY)
            assert failed.value.code == "GENERATION_ERROR"
            assert "division" not in str(failed.value)
            assert isinstance(failed.value.__cause__, ZeroDivisionError)
            assert len(llm._guard.parallel) == 0

    run(work())


def test_so_many_at_one_time(make: Callable[..., SecureLLM]) -> None:
    async def work() -> None:
        async with make(max_parallel_requests=1) as llm:
            stream = llm.secure_stream("Once", "a", max_tokens=200, ignore_eos=True)
            await anext(stream)
            with pytest.raises(RateLimitError, match="at one time"):
                await llm.secure_generate("Once", "a", **GREEDY)
            await llm.secure_generate("Once", "b", **GREEDY)
            await stream.aclose()
            await llm.secure_generate("Once", "a", **GREEDY)

    run(work())


def test_clients_share_nothing_that_is_kept(make: Callable[..., SecureLLM]) -> None:
    prompt = "Once upon a time there was a little girl. " * 5

    async def work() -> None:
        async with make() as llm:
            first = await llm.secure_generate(prompt, "a", **GREEDY)
            again = await llm.secure_generate(prompt, "a", **GREEDY)
            other = await llm.secure_generate(prompt, "b", **GREEDY)
            assert not first.metadata["cache_hit"]
            assert again.metadata["cache_hit"]
            assert not other.metadata["cache_hit"]
            assert other.metadata["cached_tokens"] == 0
            assert first.text == again.text == other.text

    run(work())


def test_lines_of_requests_can_be_left_out_of_the_log(
    make: Callable[..., SecureLLM], caplog: pytest.LogCaptureFixture
) -> None:
    async def work(llm: SecureLLM) -> None:
        async with llm:
            await llm.secure_generate("A secret", "client-x", **GREEDY)

    caplog.set_level(logging.DEBUG, "tercet")
    run(work(make(log_requests=False)))
    assert not [record for record in caplog.records if record.name == "tercet.requests"]
    run(work(make()))
    told = [record for record in caplog.records if record.name == "tercet.requests"]
    assert told
    assert not [record for record in told if "secret" in str(vars(record)) or "client-x" in str(vars(record))]


def test_mistakes_of_the_program_are_named(make: Callable[..., SecureLLM]) -> None:
    async def work() -> None:
        async with make() as llm:
            with pytest.raises(ParameterError, match="max_token"):
                await llm.secure_generate("Once", "a", max_token=3)
        with pytest.raises(UnavailableError):
            await llm.secure_generate("Once", "a")

    run(work())
    with pytest.raises(ParameterError, match="perhaps"):
        SecureLLM(content_policy="perhaps")
