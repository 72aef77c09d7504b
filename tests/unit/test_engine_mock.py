"""The mock runner: the same tokens for everybody, and the faults that were ordered."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tercet import LLM
from tercet.engine import opening
from tercet.engine.async_engine import AsyncEngine
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.mock import EngineDeath, Faults, MockRunner, inject
from tercet.engine.plan import StepLimits
from tercet.engine.request import Request
from tercet.errors import GenerationError, UnavailableError
from tercet.sampling.params import SamplingParams
from tercet.server.errors import from_exception


def request(prompt: list[int], max_tokens: int = 6) -> Request:
    return Request(prompt, SamplingParams(temperature=0.0, seed=0), max_tokens)


def expected(runner: MockRunner, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(runner.next_token(tokens))
    return tokens[len(prompt) :]


def engine_of(faults: Faults | None = None, blocks: int = 64) -> tuple[MockRunner, Engine]:
    runner = MockRunner(faults=faults)
    return runner, Engine(runner, KvBlockPool(blocks, 4, keeps_prefixes=True), StepLimits(16, 8))


def test_tokens_do_not_depend_on_the_batch() -> None:
    runner, engine = engine_of()
    prompts = [[1, 2, 3], list(range(30)), [9] * 12, list(range(30))]
    requests = [request(prompt) for prompt in prompts]
    engine.complete(requests)
    for prompt, one in zip(prompts, requests, strict=True):
        assert one.generated_ids == expected(runner, prompt, 6)
    assert engine.embed([[1, 2], [3]]).shape == (2, 8)
    assert engine.score([1, 2, 3])[-1].argmax() == runner.next_token([1, 2, 3])


@pytest.mark.parametrize(
    ("faults", "kind"),
    [(Faults(crash_at_step=2), RuntimeError), (Faults(out_of_memory_at_step=2), MemoryError)],
)
def test_a_step_that_fails_ends_its_requests_alone(faults: Faults, kind: type[Exception]) -> None:
    runner, engine = engine_of(faults)
    first = request([1, 2])
    with pytest.raises(kind, match="step 2"):
        engine.complete([first])
    later = request([4, 5])
    engine.complete([later])
    assert later.generated_ids == expected(runner, [4, 5], 6)
    stats = engine.stats()
    assert (stats.started, stats.finished, stats.failed, stats.owned_blocks) == (2, 1, 1, 0)


def test_a_hang_lasts_until_it_is_released() -> None:
    runner, engine = engine_of(Faults(hang_at_step=1, delay_seconds=0.001))
    one = request([1, 2])
    thread = threading.Thread(target=engine.complete, args=([one],))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    runner.release.set()
    thread.join(10)
    assert one.generated_ids == expected(runner, [1, 2], 6)


def test_a_death_ends_the_thread_and_is_told_to_whoever_waits() -> None:
    async def scenario() -> None:
        engine = AsyncEngine(engine_of(Faults(die_at_step=2))[1])
        await engine.start()
        with pytest.raises(UnavailableError, match="the engine has stopped"):
            async for _ in engine.submit(request([1, 2])):
                pass
        assert not engine.is_alive
        assert isinstance(engine.failure, EngineDeath)
        await engine.stop()

    asyncio.run(scenario())


def test_faults_of_a_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(opening), "Runner", vars(opening)["Runner"])  # undone after the test
    inject(Faults(crash_at_step=3))
    with LLM(threads=1) as llm:
        with pytest.raises(RuntimeError, match="step 3 crashes"):
            llm.generate("Once upon a time", max_tokens=5, temperature=0)
        text = llm.generate("Once upon a time", max_tokens=5, temperature=0).text
    monkeypatch.undo()
    with LLM(threads=1) as llm:
        assert text == llm.generate("Once upon a time", max_tokens=5, temperature=0).text


def test_no_number_among_the_logits_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of others in the same step are theirs, and the engine goes on."""
    with LLM() as llm:
        expected = llm.generate(["Once upon a time", "One day"], max_tokens=12, temperature=0)
    monkeypatch.setattr(opening, "Runner", opening.Runner)  # what inject puts there is taken back
    inject(Faults(nan_at_step=5))
    with LLM() as llm:
        requests = [
            llm.request(llm.prompt_tokens(prompt), SamplingParams(temperature=0, max_tokens=12))
            for prompt in ("Once upon a time", "One day")
        ]
        with pytest.raises(GenerationError, match="the largest logit of the model is NaN"):
            llm.engine.complete(requests)
        assert (from_exception(requests[0].error or OSError()).status, requests[1].error) == (500, None)
        while not requests[1].finished:
            llm.engine.advance(requests[1])
        assert requests[1].generated_ids == expected[1].token_ids
        assert llm.generate("Once upon a time", max_tokens=12, temperature=0).text == expected[0].text
        assert llm.engine.pool.num_owned == 0
