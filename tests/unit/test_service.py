"""Generation as a service: one door, several models, limits, deadlines, and an end for everything."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tercet import LLM, SamplingParams
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    ParameterError,
    UnavailableError,
)
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

PROMPT = "Once upon a time"
GREEDY = SamplingParams(temperature=0, ignore_eos=True, max_tokens=12)
LONG = SamplingParams(temperature=0, ignore_eos=True, max_tokens=2_000)


def asked(prompt: Any = PROMPT, params: SamplingParams = GREEDY, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, params=params, **more)


def settings(path: Path, **changes: Any) -> ServiceSettings:
    return ServiceSettings(models={"tiny": str(path)}, llm={"threads": 1}, **changes)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


class Slow:
    """Makes every step of a model take a while, so that a test can act in the middle of an answer."""

    def __init__(self, service: Service, seconds: float = 0.02) -> None:
        engine = service.pool.get().engine.engine
        self.step, self.seconds = engine.step, seconds
        engine.step = self  # type: ignore[method-assign]

    def __call__(self) -> bool:
        import time

        time.sleep(self.seconds)
        return self.step()


# Answers ---------------------------------------------------------------------------------------------


def test_a_service_gives_what_the_model_gives(tiny_model_file: Path) -> None:
    with LLM(tiny_model_file, threads=1) as llm:
        expected = llm.generate(PROMPT, GREEDY)
        chat = llm.chat([{"role": "user", "content": "Hello"}], GREEDY)

    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            generation = await service.submit(asked(id="mine", metadata={"line": 3}))
            pieces = [event.text async for event in generation]
            result = await generation.result()
            assert "".join(pieces) == result.text == expected.text
            assert result.token_ids == expected.token_ids
            assert (result.finish_reason, generation.outcome) == ("length", "length")
            assert (generation.request.id, generation.request.metadata) == ("mine", {"line": 3})
            assert result.metadata["model"] == "tiny"
            talk = await service.submit(
                GenerationRequest(messages=[{"role": "user", "content": "Hello"}], params=GREEDY)
            )
            assert (await talk.result()).token_ids == chat.token_ids

    run(work())


def test_times_count_from_the_arrival_and_add_up(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            result = await (await service.submit(asked("Once upon a time " * 8))).result()
            timings = result.metadata["timings"]
            assert all(seconds >= 0 for seconds in timings.values())
            assert sum(timings.values()) == pytest.approx(result.generation_time_seconds)
            assert timings["preparation_seconds"] > 0
            assert result.time_to_first_token_seconds < result.generation_time_seconds
            assert result.tokens_per_second == pytest.approx(12 / result.generation_time_seconds)

    run(work())


# Limits ----------------------------------------------------------------------------------------------


def test_a_request_has_a_prompt_or_messages() -> None:
    with pytest.raises(ParameterError, match="neither"):
        GenerationRequest()
    with pytest.raises(ParameterError, match="both"):
        GenerationRequest(prompt="a", messages=[])
    with pytest.raises(ParameterError, match="timeout_seconds is a number above 0"):
        GenerationRequest(prompt="a", timeout_seconds=0)
    with pytest.raises(ParameterError, match="max_queued_requests"):
        ServiceSettings(max_queued_requests=0)


def test_a_prompt_that_is_too_long_is_refused_and_not_cut(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file, max_prompt_tokens=4)) as service:
            await (await service.submit(asked([5, 6, 7, 8]))).result()
            with pytest.raises(ContextLengthError, match="5 tokens, and at most 4") as caught:
                await service.submit(asked([5, 6, 7, 8, 9]))
            assert (caught.value.prompt_tokens, caught.value.max_context) == (5, 4)

    run(work())


def test_no_more_run_at_once_than_may_and_no_more_wait(tiny_model_file: Path) -> None:
    async def work() -> None:
        limits = settings(tiny_model_file, max_concurrent=2, max_queued_requests=3)
        async with Service(limits) as service:
            Slow(service)
            generations = [await service.submit(asked(params=LONG)) for _ in range(2)]
            engine = service.pool.get().engine
            while engine.num_running < 2:
                await asyncio.sleep(0.001)
            generations += [await service.submit(asked(params=LONG)) for _ in range(3)]
            with pytest.raises(OverloadedError) as caught:
                await service.submit(asked())
            assert caught.value.retry_after_seconds > 0
            await asyncio.sleep(0.05)
            assert (engine.num_running, engine.num_waiting) == (2, 3)
            for generation in generations:
                await generation.cancel()

    run(work())


@pytest.mark.parametrize("limit", ["timeout_seconds", "first_token_timeout_seconds"])
def test_what_takes_too_long_ends_and_frees_what_it_held(tiny_model_file: Path, limit: str) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            Slow(service, 0.2)
            generation = await service.submit(asked(params=LONG, **{limit: 0.1}))
            with pytest.raises(DeadlineError, match=r"within 0\.1 seconds"):
                await generation.result()
            assert generation.outcome == "deadline"
            with pytest.raises(DeadlineError):
                await generation.result()
            engine = service.pool.get().engine
            while engine.num_running + engine.num_waiting:
                await asyncio.sleep(0.01)
            assert service.pool.get().llm.engine.pool.num_owned == 0

    run(work())


def test_the_limit_to_the_first_token_does_not_end_a_long_answer(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            Slow(service, 0.02)
            generation = await service.submit(asked(first_token_timeout_seconds=0.15))
            assert (await generation.result()).generated_tokens == 12
            assert (await generation.result()).generation_time_seconds > 0.2

    run(work())


def test_cancelling_keeps_what_has_come(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            Slow(service)
            generation = await service.submit(asked(params=LONG))
            await generation.__anext__()
            await generation.cancel()
            assert generation.outcome == "cancelled"
            result = await generation.result()
            assert result.finish_reason == "cancelled"
            assert 0 < result.generated_tokens < 50
            assert result == generation.summary

    run(work())


def test_a_generation_that_nobody_holds_is_cancelled(tiny_model_file: Path) -> None:
    class Ends:
        def __init__(self) -> None:
            self.outcomes: list[str | None] = []

        def refused(self, *about: Any) -> None: ...

        def submitted(self, *about: Any) -> None: ...

        def received(self, *about: Any) -> None: ...

        def embedded(self, *about: Any) -> None: ...

        def settled(self, generation: Generation) -> None:
            self.outcomes.append(generation.outcome)

    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            Slow(service)
            ends = Ends()
            service.pool.get()._observers = [ends]
            generation = await service.submit(asked(params=LONG))
            await generation.__anext__()
            del generation
            gc.collect()
            while not ends.outcomes:
                await asyncio.sleep(0.01)
            assert ends.outcomes == ["cancelled"]
            engine = service.pool.get().engine
            while engine.num_running:
                await asyncio.sleep(0.01)

    run(work())


# Models ----------------------------------------------------------------------------------------------


def test_models_come_and_go_by_name(tiny_model_file: Path) -> None:
    async def work() -> None:
        service = Service(settings(tiny_model_file))
        with pytest.raises(UnavailableError, match="the service is new"):
            await service.submit(asked())
        async with service:
            await service.pool.load("second", str(tiny_model_file))
            assert service.pool.names() == ["tiny", "second"]
            assert (await service.submit(asked(model="second"))).model == "second"
            assert (await service.submit(asked())).model == "tiny"
            with pytest.raises(ParameterError, match="a model second is loaded already"):
                await service.pool.load("second", str(tiny_model_file))
            with pytest.raises(ModelNotFoundError, match="there is no model 'third' here; there are tiny"):
                await service.submit(asked(model="third"))
            await service.pool.unload("second")
            with pytest.raises(ModelNotFoundError):
                service.pool.get("second")
        assert service.state == "stopped"

    run(work())


def test_an_unnamed_model_has_its_own_name_and_a_bad_file_fails_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        service = Service(ServiceSettings(models={"": str(tmp_path / "none.tercet")}))
        with pytest.raises(ModelNotFoundError):
            await service.start()
        assert (service.state, isinstance(service.failure, ModelNotFoundError)) == ("failed", True)
        async with Service() as service:
            assert service.pool.names() == ["llama-tercet-tiny"]

    run(work())


def test_a_model_is_replaced_while_it_answers(tiny_model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"
    shutil.copy(tiny_model_file, path)

    async def work() -> None:
        async with Service(settings(path)) as service:
            old = service.pool.get()
            Slow(service)
            generation = await service.submit(asked())
            new = await service.pool.reload("tiny")
            assert service.pool.get() is new
            assert new is not old
            assert (await generation.result()).generated_tokens == 12  # the old one finishes its work
            assert (await (await service.submit(asked())).result()).generated_tokens == 12
            while old.state != "closed":
                await asyncio.sleep(0.01)
            path.write_bytes(b"not a model")
            with pytest.raises(Exception, match=r"model\.tercet"):
                await service.pool.reload("tiny")
            assert service.pool.get() is new

    run(work())


def test_stopping_lets_requests_finish_then_ends_the_rest(tiny_model_file: Path) -> None:
    async def work() -> None:
        service = Service(settings(tiny_model_file))
        await service.start()
        Slow(service)
        short, long = await service.submit(asked()), await service.submit(asked(params=LONG))
        stopping = asyncio.create_task(service.stop(0.5))
        await asyncio.sleep(0)
        assert service.state == "draining"
        with pytest.raises(UnavailableError, match="draining"):
            await service.submit(asked())
        assert (await short.result()).generated_tokens == 12
        with pytest.raises(UnavailableError):
            await long.result()
        await stopping
        assert (long.outcome, service.state) == ("error", "stopped")

    run(work())
