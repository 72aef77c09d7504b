"""The shipped model: a request's tokens do not depend on who shares its steps, nor on who takes its memory.

A cache that is far too small for all, requests of three priorities and two tenants that come one after the
other, some of which leave: everybody else gets token for token what he gets alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tercet import LLM
from tercet.engine.async_engine import AsyncEngine
from tercet.engine.draft import DraftModel
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.prompt_lookup import PromptLookup
from tercet.engine.request import Request
from tercet.engine.speculation import Speculation

STORY = (
    "Once upon a time there was a little dog named Max. Max liked to play with a red ball in the park. "
    "One day Max lost the red ball. He looked under the tree. He looked behind the big house. "
)
PROMPTS = [
    STORY,
    STORY + "Then",
    "Lily and Tom went to the park.",
    "Once upon a time",
    STORY + STORY,
    "The cat",
    STORY + "The end. " + STORY,
    "One day Max lost the red ball.",
]
GREEDY: dict[str, Any] = {"temperature": 0}
DRAWN: dict[str, Any] = {"temperature": 0.9, "seed": 3, "repetition_penalty": 1.1}
NUM_TOKENS = 60
NUM_BLOCKS = 14
"""The longest needs 10."""


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(threads=1, prefix_cache=False, speculation="off") as llm:
        yield llm


@pytest.fixture(scope="module")
def alone(llm: LLM) -> dict[str, list[list[int]]]:
    """The tokens of every prompt, computed one after the other."""
    return {
        name: [
            llm.generate(prompt, max_tokens=NUM_TOKENS, ignore_eos=True, **way).token_ids
            for prompt in PROMPTS
        ]
        for name, way in (("greedy", GREEDY), ("drawn", DRAWN))
    }


def requests_of(llm: LLM, **way: Any) -> list[Request]:
    settings = llm.sampling(None, {"max_tokens": NUM_TOKENS, "ignore_eos": True, **way})
    requests = [llm.request(llm.prompt_tokens(prompt), settings) for prompt in PROMPTS]
    for index, request in enumerate(requests):
        request.priority, request.tenant = index % 3, "ab"[index % 2]
    return requests


def small_engine(llm: LLM, prefixes: bool = True, guesses: str = "nobody") -> Engine:
    runner = llm.engine.runner
    proposers = {
        "nobody": lambda: None,
        "prompt_lookup": lambda: Speculation(PromptLookup()),
        # A draft that is always right, and whose cache does not hold everybody.
        "draft": lambda: Speculation(DraftModel(LLM(threads=1).engine.runner, KvBlockPool(30, 16), 512)),
    }
    pool = KvBlockPool(NUM_BLOCKS, 16, prefixes)
    return Engine(runner, pool, StepLimits(48, 5), speculation=proposers[guesses]())


@pytest.mark.parametrize("way", ["greedy", "drawn"])
@pytest.mark.parametrize("guesses", ["nobody", "prompt_lookup", "draft"])
@pytest.mark.parametrize("prefixes", [True, False])
def test_the_same_tokens_in_any_company(
    llm: LLM, alone: dict[str, list[list[int]]], way: str, guesses: str, prefixes: bool
) -> None:
    engine = small_engine(llm, prefixes, guesses)
    generator = np.random.default_rng(7)
    settings = GREEDY if way == "greedy" else DRAWN
    for _ in range(2):  # the second time with whatever the first has left in the cache
        requests, passing = requests_of(llm, **settings), requests_of(llm, **settings)
        for request, other in zip(requests, passing, strict=True):
            engine.submit(request)
            engine.submit(other)
            for _ in range(generator.integers(0, 6)):
                engine.step()
            engine.cancel(other)
        while engine.step():
            pass
        assert [request.generated_ids for request in requests] == alone[way]
        for other, tokens in zip(passing, alone[way], strict=True):
            assert other.generated_ids == tokens[: len(other.generated_ids)]
    stats = engine.stats()
    assert stats.preemptions > 0
    assert stats.recomputed_tokens > 0
    assert (stats.prefix_hits > 0) == prefixes
    assert (stats.accepted_tokens > 0) == (guesses != "nobody")
    assert (stats.owned_blocks, stats.failed, stats.running, stats.waiting) == (0, 0, 0, 0)
    assert stats.started == stats.finished + stats.aborted == 4 * len(PROMPTS)


def test_the_same_tokens_through_streams(llm: LLM, alone: dict[str, list[list[int]]]) -> None:
    async def read(engine: AsyncEngine, request: Request, until: int) -> tuple[str, list[int]]:
        text, ids = "", []
        async for event in engine.submit(request):
            text += event.text
            ids += event.token_ids
            if len(ids) >= until:
                engine.cancel(request)
        return text, ids

    async def serve() -> None:
        engine = AsyncEngine(small_engine(llm))
        await engine.start()
        requests, passing = requests_of(llm, **GREEDY), requests_of(llm, **GREEDY)
        reading = [read(engine, request, 10_000) for request in requests]
        leaving = [read(engine, request, 5 * index) for index, request in enumerate(passing)]
        answers = await asyncio.gather(*reading, *leaving)
        await engine.stop()
        assert [ids for _, ids in answers[: len(requests)]] == alone["greedy"]
        for request, (text, _) in zip([*requests, *passing], answers, strict=True):
            assert request.output is not None
            assert text == request.output.text
        stats = engine.stats()
        assert stats.started == stats.finished + stats.aborted == 2 * len(PROMPTS)
        assert stats.owned_blocks == 0

    asyncio.run(serve())


@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
def test_smaller_keys_and_values_are_computed_again_to_the_same_bits(kv_dtype: str) -> None:
    with LLM(threads=1, kv_dtype=kv_dtype) as llm:
        apart = [
            llm.generate(prompt, max_tokens=NUM_TOKENS, ignore_eos=True, **GREEDY).token_ids
            for prompt in PROMPTS
        ]
        engine = small_engine(llm)
        requests = requests_of(llm, **GREEDY)
        engine.complete(requests)
        assert [request.generated_ids for request in requests] == apart
        assert engine.stats().preemptions > 0
