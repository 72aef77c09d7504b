"""Whatever callers do, in whatever mixture: every request ends once, is counted once, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tercet import SamplingParams
from tercet.engine.result import GenerationResult
from tercet.errors import TercetError
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

PROMPTS = st.sampled_from(
    ["Once upon a time", "Once upon a dog", "A cat", [5], [7] * 30, [1] * 64, [10**6], ""]
)
SAMPLINGS = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 40),
    temperature=st.sampled_from([0, 2.0]),
    seed=st.none() | st.integers(0, 2),
    stop=st.sampled_from([(), ("a",), (" ",)]),
)
REQUESTS = st.fixed_dictionaries(
    {"prompt": PROMPTS, "params": SAMPLINGS},
    optional={
        "timeout_seconds": st.sampled_from([0.001, 0.02]),
        "first_token_timeout_seconds": st.sampled_from([0.001, 0.02]),
        "model": st.sampled_from(["tiny", "none"]),
        "priority": st.integers(-1, 1),
        "tenant": st.sampled_from(["a", "b"]),
    },
)
# What a caller does with what it gets: reads so many pieces, then one of these.
ENDS = st.sampled_from(["read on", "cancel", "drop", "leave", "cancel the reader"])
CALLERS = st.lists(st.tuples(REQUESTS, st.integers(0, 5), ENDS), min_size=1, max_size=25)


async def call(service: Service, asked: dict[str, Any], num_pieces: int, end: str) -> GenerationResult | None:
    """Be one caller; returns the result if it has waited for one."""
    generation = await service.submit(GenerationRequest(**asked))
    for _ in range(num_pieces):
        async for _ in generation:
            break
    if end == "cancel":
        await generation.cancel()
    elif end == "leave":
        await asyncio.sleep(0.01)
        await generation.cancel()
    elif end == "cancel the reader":
        reader = asyncio.ensure_future(generation.result())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await generation.cancel()
    elif end == "read on":
        return await generation.result()
    return None


@settings(max_examples=25)
@given(callers=CALLERS)
def test_accounts_balance(callers: list[tuple[dict[str, Any], int, str]], tiny_model_file: Path) -> None:
    async def work() -> None:
        bounds = ServiceSettings(
            models={"tiny": str(tiny_model_file)},
            llm={"threads": 1},
            max_concurrent=3,
            max_queued_requests=8,
            max_prompt_tokens=40,
            response_cache="memory",
        )
        async with Service(bounds) as service:
            done = await asyncio.gather(
                *(call(service, *caller) for caller in callers), return_exceptions=True
            )
            assert all(isinstance(one, TercetError | GenerationResult | None) for one in done), done
            gc.collect()  # what was dropped is ended by its finalizer, in the next turn of the loop
            engine = service.pool.get().engine
            for _ in range(500):
                counts = service.metrics.summary()
                if not (engine.num_running or engine.num_waiting or counts["requests_in_flight"]):
                    break
                await asyncio.sleep(0.01)
            ended = [counts[f"{how}_requests"] or 0 for how in ("successful", "failed", "cancelled")]
            assert counts["requests_in_flight"] == 0
            assert counts["total_requests"] == len(callers) == sum(ended)
            results = [one for one in done if isinstance(one, GenerationResult)]
            assert counts["successful_requests"] >= len(results)
            stats = engine.stats()
            assert stats.owned_blocks == 0
            left = stats.finished + stats.aborted + stats.failed + stats.rejected
            assert stats.started == left
            # Of the engine's tokens, all but those of the warm-up are somebody's.
            assert counts["total_tokens_generated"] <= stats.generated_tokens

    asyncio.run(asyncio.wait_for(work(), 60))
