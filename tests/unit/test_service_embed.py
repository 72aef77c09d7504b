"""Vectors as a service: the model's own, within bounds, in time, and stopped when nobody waits for them."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet import LLM
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
    UnsupportedModelError,
)
from tercet.models.saving import save_huggingface_folder
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json

TEXTS = ["Once upon a time", "The little dog", "a cat, a boat and 3 friends"] * 15


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = dataclasses.replace(
        TINY_CONFIG, architecture="qwen3", activation="silu", attention_sub_norm=False, ffn_sub_norm=False,
        qk_norm=True, projection_norms=True, pooling="last", normalize_embeddings=True, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("embedding") / "vectors"
    save_huggingface_folder(folder, config, random_masters(config), tokenizer_json=tiny_tokenizer_json())
    return folder


def settings(path: Path, **changes: Any) -> ServiceSettings:
    return ServiceSettings(models={"vectors": str(path)}, llm={"threads": 1}, **changes)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def slow(service: Service, seconds: float) -> list[int]:
    """Make every slice take a while; returns the list of their sizes."""
    llm = service.pool.get().llm
    embed, sizes = llm.embed, []

    def slower(texts: Any) -> Any:
        sizes.append(len(texts))
        time.sleep(seconds)
        return embed(texts)

    llm.embed = slower  # type: ignore[method-assign]
    return sizes


def test_vectors_are_those_of_the_model_and_are_counted(model: Path) -> None:
    with LLM(model, threads=1) as llm:
        expected = llm.embed(TEXTS)
        num_tokens = sum(len(llm.embedding_tokens(text)) for text in TEXTS)

    async def work() -> None:
        async with Service(settings(model)) as service:
            served = service.pool.get()
            both = await asyncio.gather(served.embed(TEXTS), served.embed(TEXTS[:1]))
            assert np.array_equal(both[0].vectors, expected)
            assert np.array_equal(both[1].vectors, expected[:1])
            assert both[0].prompt_tokens == num_tokens
            with pytest.raises(ContextLengthError):
                await served.embed(["a b " * 100])
            with pytest.raises(UnsupportedModelError, match="use embed"):
                await service.submit(GenerationRequest(prompt="a"))
            counts = service.metrics.summary()
            assert (counts["successful_requests"], counts["failed_requests"]) == (2, 2)
            assert (await service.health.report())["status"] == "healthy"

    run(work())


def test_no_more_wait_than_may(model: Path) -> None:
    async def work() -> None:
        async with Service(settings(model, max_queued_requests=1)) as service:
            slow(service, 0.1)
            served = service.pool.get()
            calls = [served.embed(TEXTS[:1]) for _ in range(5)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            refused = [one for one in done if isinstance(one, OverloadedError)]
            assert len(refused) == 2
            assert refused[0].retry_after_seconds > 0

    run(work())


def test_who_runs_out_of_time_or_gives_up_stops_the_work(model: Path) -> None:
    async def work() -> None:
        async with Service(settings(model, timeout_seconds=0.15)) as service:
            sizes = slow(service, 0.1)
            served = service.pool.get()
            with pytest.raises(DeadlineError, match=r"within 0\.15 seconds"):
                await served.embed(TEXTS)
            while served._embedding.num_calls:
                await asyncio.sleep(0.01)
            assert sizes == [16, 16]  # of three slices
            call = asyncio.ensure_future(served.embed(TEXTS))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while served._embedding.num_calls:
                await asyncio.sleep(0.01)
            assert len(sizes) == 3
            counts = service.metrics.summary()
            assert (counts["failed_requests"], counts["cancelled_requests"]) == (1, 1)

    run(work())


def test_unloading_waits_for_what_is_computed(model: Path) -> None:
    async def work() -> None:
        service = Service(settings(model))
        await service.start()
        slow(service, 0.1)
        served = service.pool.get()
        short, long = (asyncio.ensure_future(served.embed(TEXTS[:count])) for count in (1, 45))
        await asyncio.sleep(0.01)
        await service.stop(0.15)
        assert (await short).vectors.shape[0] == 1
        with pytest.raises(UnavailableError):
            await long
        with pytest.raises(UnavailableError):
            await served.embed(TEXTS)

    run(work())
