"""One model that answers many: its tokenizer and template, its engine thread, and its limits.

The event loop does nothing that takes long: conversations are rendered, long texts tokenized, grammars
compiled and embeddings computed in threads, and the engine has its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tercet.engine.async_engine import AsyncEngine
from tercet.engine.request import Request
from tercet.errors import ContextLengthError, TercetError, UnavailableError, UnsupportedModelError
from tercet.formats.floats import FLOAT_TYPES
from tercet.llm import LLM, Prompt
from tercet.sampling.constraints import compile_constraint
from tercet.sampling.params import SamplingParams
from tercet.service.generation import Generation, GenerationObserver
from tercet.service.request import GenerationRequest
from tercet.service.settings import ServiceSettings
from tercet.tokenization import ChatTemplate
from tercet.tokenization.chat_template import Message
from tercet.tokenization.plain_template import PLAIN_STOP, PLAIN_TEMPLATE

__all__ = ["Embeddings", "ServedModel"]

State = Literal["loading", "ready", "draining", "closed"]
QUICK_CHARACTERS = 2_000
"""A text up to this long is tokenized at once: that takes less than the way to a thread and back."""
WARM_UP_TOKENS = 8
FIRST = -(2**31)
"""The priority that goes before all others."""


@dataclass(frozen=True)
class Embeddings:
    """Vectors float32 [texts, hidden_size], and the tokens that were read for them."""

    vectors: npt.NDArray[np.float32]
    prompt_tokens: int


class ServedModel:
    """A model under the name that callers use.

    Args:
        name: that name.
        llm: the model; it is closed with this object.
        settings: the limits.
        observers: who hears of every request.
    """

    def __init__(
        self,
        name: str,
        llm: LLM,
        settings: ServiceSettings | None = None,
        *,
        observers: Sequence[GenerationObserver] = (),
    ) -> None:
        self.name = name
        self.llm = llm
        self.settings = settings or ServiceSettings()
        self.state: State = "loading"
        self._observers = observers
        if self.settings.max_concurrent is not None:
            _limit_sequences(llm, self.settings.max_concurrent)
        self.engine = AsyncEngine(
            llm.engine,
            max_queued_requests=self.settings.max_queued_requests,
            max_queued_tokens=self.settings.max_queued_tokens,
            max_buffered_events=self.settings.max_buffered_events,
        )

    @property
    def max_concurrent(self) -> int:
        """How many requests run at once."""
        return self.llm.engine.limits.max_sequences

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model reads and writes text."""
        try:
            return bool(self.llm.tokenizer)
        except UnsupportedModelError:
            return False

    @property
    def quantization(self) -> str:
        """How the weights are stored, apart from what is plain floats: `two_bit`, for example."""
        types = [one for one in self.llm.weight_types if one not in FLOAT_TYPES]
        return ", ".join(types or self.llm.weight_types)

    @functools.cached_property
    def chat_template(self) -> ChatTemplate:
        """What writes conversations: the model's own template, or a plain one where it came without.

        Rendering runs it in another process: not for the event loop's own thread.
        """
        llm = self.llm
        if llm.chat_template is not None:
            return llm.chat_template
        bos = llm.config.bos_token_id
        text = "" if bos is None else llm.tokenizer.token_bytes(bos).decode()
        return ChatTemplate(PLAIN_TEMPLATE, llm.tokenizer, bos_token=text)

    async def chat_text(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation as `submit` would write it."""
        return await asyncio.to_thread(self.chat_template.render, messages)

    @classmethod
    async def open(
        cls,
        name: str,
        path: str | None,
        settings: ServiceSettings | None = None,
        *,
        observers: Sequence[GenerationObserver] = (),
    ) -> ServedModel:
        """Load a model in a thread, start its engine and warm it up; an empty name takes the model's own.

        Raises:
            ModelNotFoundError, FormatError, UnsupportedModelError, MemoryLimitError: see `tercet.LLM`.
        """
        settings = settings or ServiceSettings()
        llm = await asyncio.to_thread(lambda: LLM(path, **settings.llm))
        model = cls(name or llm.name, llm, settings, observers=observers)
        await model.start()
        return model

    async def start(self) -> None:
        """Start the engine and warm it up; requests are taken from then on."""
        await self.engine.start()
        if self.settings.warm_up:
            await self._warm_up()
        self.state = "ready"

    async def close(self, drain_seconds: float | None = None) -> None:
        """Take no more requests, let those that run finish for a while, and let go of the model."""
        if self.state == "closed":
            return
        self.state = "draining"
        seconds = self.settings.drain_seconds if drain_seconds is None else drain_seconds
        await self.engine.stop(seconds)
        self.state = "closed"
        self.llm.close()

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request, and return what will be its answer.

        Raises:
            ParameterError: the prompt, a sampling value or the constraint is not valid.
            ContextLengthError: the prompt is longer than it may be, or leaves no room for an answer.
            OverloadedError: too much waits already.
            UnavailableError: the model is loading, draining or out of order.
            UnsupportedModelError: the model makes embeddings.
        """
        arrived_at = self.llm.engine.clock() if self.state != "closed" else 0.0
        try:
            return await self._submit(request, arrived_at)
        except TercetError as error:
            for observer in self._observers:
                observer.refused(self.name, request, error)
            raise

    async def embed(self, texts: Sequence[Prompt]) -> Embeddings:
        """Return a vector for each text; raises what `LLM.embed` raises, and UnavailableError."""
        self._check_ready()
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[Prompt]) -> Embeddings:
        ids = [self.llm.embedding_tokens(text) for text in texts]
        return Embeddings(self.llm.embed(ids), sum(map(len, ids)))

    async def _submit(self, request: GenerationRequest, arrived_at: float) -> Generation:
        self._check_ready()
        is_quick = request.messages is None and request.constraint is None
        if is_quick and len(request.prompt or ()) <= QUICK_CHARACTERS:
            engine_request = self._prepare(request)
        else:
            engine_request = await asyncio.to_thread(self._prepare, request)
            self._check_ready()
        timeouts = self._timeouts(request)
        engine_request.deadline, engine_request.first_token_deadline = (
            None if seconds is None else arrived_at + seconds for seconds in timeouts
        )
        return Generation(
            request,
            self.engine.submit(engine_request),
            self.engine,
            model=self.name,
            arrived_at=arrived_at,
            timeouts=timeouts,
            observers=self._observers,
        )

    def _prepare(self, request: GenerationRequest) -> Request:
        """Turn what a caller asks for into what the engine runs."""
        llm = self.llm
        params = llm.sampling(request.params, {})
        if request.messages is None:
            prompt_ids = llm.prompt_tokens(() if request.prompt is None else request.prompt)
        else:
            prompt_ids = self.chat_template.encode(request.messages)
            if llm.chat_template is None:
                params = dataclasses.replace(params, stop=(*params.stop, *PLAIN_STOP))
        most = self.settings.max_prompt_tokens
        if most is not None and len(prompt_ids) > most:
            raise ContextLengthError(
                f"the prompt has {len(prompt_ids)} tokens, and at most {most} are taken here; shorten it",
                len(prompt_ids),
                most,
            )
        prepared = llm.request(prompt_ids, params)
        if request.constraint is not None:
            prepared.constraint = compile_constraint(request.constraint, llm.tokenizer)
        prepared.id = request.id
        prepared.priority = request.priority
        prepared.tenant = request.tenant
        prepared.cache_salt = request.cache_salt
        return prepared

    def _timeouts(self, request: GenerationRequest) -> tuple[float | None, float | None]:
        own, ours = request, self.settings
        return (
            ours.timeout_seconds if own.timeout_seconds is None else own.timeout_seconds,
            ours.first_token_timeout_seconds
            if own.first_token_timeout_seconds is None
            else own.first_token_timeout_seconds,
        )

    def _check_ready(self) -> None:
        if self.state != "ready":
            what = {"loading": "is loading", "draining": "is being unloaded"}.get(self.state, "is unloaded")
            raise UnavailableError(f"the model {self.name} {what}; try again in a moment, or name another")

    async def _warm_up(self) -> None:
        """Answer a short prompt, so that the first caller does not wait for pages and kernels."""
        await self._answer_itself(WARM_UP_TOKENS)

    async def probe(self) -> None:
        """Generate one token, before whatever waits; raises what goes wrong. No count of requests has it."""
        await self._answer_itself(1)

    async def _answer_itself(self, num_tokens: int) -> None:
        length = min(WARM_UP_TOKENS, self.llm.max_context - num_tokens, self.llm.config.vocab_size)
        ids = list(range(max(length, 1)))
        if self.llm.makes_embeddings:
            await asyncio.to_thread(self.llm.embed, [ids])
            return
        params = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
        request = self.llm.request(ids, params)
        request.priority = FIRST
        try:
            async for _ in self.engine.submit(request):
                pass
        finally:
            self.engine.cancel(request)


def _limit_sequences(llm: LLM, max_concurrent: int) -> None:
    """Let so many requests run at once; a plan within a memory limit is not exceeded."""
    limits = llm.engine.limits
    if llm.memory_plan is not None:
        max_concurrent = min(max_concurrent, limits.max_sequences)
    llm.engine.limits = dataclasses.replace(limits, max_sequences=max_concurrent)
