"""Vectors for many callers: within bounds and in time, beside nothing else.

A model that makes embeddings computes one call's texts at a time, slice by slice, while the next call's are
tokenized. Others wait, and no more than may. Who gives up, or runs out of time, costs at most the slice that
is being computed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tercet.engine.prompts import Prompt
from tercet.errors import DeadlineError, OverloadedError, UnavailableError
from tercet.llm import LLM
from tercet.service.settings import ServiceSettings

__all__ = ["EmbeddingQueue", "Embeddings"]

AT_ONCE = 2
SLICE_TEXTS = 16
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Embeddings:
    """Vectors float32 [texts, hidden_size], and the tokens that were read for them."""

    vectors: npt.NDArray[np.float32]
    prompt_tokens: int


class EmbeddingQueue:
    """The calls of one model."""

    def __init__(self, llm: LLM, settings: ServiceSettings) -> None:
        self._llm = llm
        self._settings = settings
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._stops: set[threading.Event] = set()

    @property
    def num_calls(self) -> int:
        """Calls that wait or are computed."""
        return len(self._stops)

    async def embed(self, texts: Sequence[Prompt]) -> Embeddings:
        """Return a vector for each text.

        Raises:
            OverloadedError: too many calls wait.
            DeadlineError: it took longer than a request may.
            UnavailableError: the model was unloaded meanwhile.
        """
        most = self._settings.max_queued_requests + AT_ONCE
        if self.num_calls >= most:
            raise OverloadedError(
                f"{most - AT_ONCE} requests wait, as many as may; try again in a second",
                RETRY_SECONDS,
            )
        stop = threading.Event()
        self._stops.add(stop)
        work = asyncio.ensure_future(self._in_turn(texts, stop))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits
        seconds = self._settings.timeout_seconds
        try:
            return await asyncio.wait_for(asyncio.shield(work), seconds)
        except asyncio.TimeoutError as error:
            raise DeadlineError(
                f"the texts have no vectors within {seconds:g} seconds; send fewer, or allow more time"
            ) from error
        finally:
            stop.set()

    async def drain(self, seconds: float) -> None:
        """Wait until all calls have ended; stop those that have not after a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._stops and loop.time() < until:
            await asyncio.sleep(0.01)
        for stop in self._stops:
            stop.set()
        while self._stops:  # at most a slice of each that is computed
            await asyncio.sleep(0.01)

    async def _in_turn(self, texts: Sequence[Prompt], stop: threading.Event) -> Embeddings:
        try:
            async with self._slots:
                return await asyncio.to_thread(self._compute, texts, stop)
        finally:
            self._stops.discard(stop)

    def _compute(self, texts: Sequence[Prompt], stop: threading.Event) -> Embeddings:
        ids = [self._llm.embedding_tokens(text) for text in texts]
        parts = []
        for begin in range(0, max(len(ids), 1), SLICE_TEXTS):
            if stop.is_set():
                raise UnavailableError("the model is being unloaded, or nobody waits for these vectors")
            parts.append(self._llm.embed(ids[begin : begin + SLICE_TEXTS]))
        return Embeddings(np.concatenate(parts), sum(map(len, ids)))
