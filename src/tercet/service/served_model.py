"""One model that answers many: its tokenizer and template, its engine thread, and its limits.

The event loop does nothing that takes long: conversations are rendered, long texts tokenized, grammars
compiled and embeddings computed in threads, and the engine has its own.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tercet.engine.async_engine import AsyncEngine
from tercet.engine.prompts import Prompt
from tercet.engine.result import GenerationResult
from tercet.errors import TercetError, UnavailableError, UnsupportedModelError
from tercet.formats.floats import FLOAT_TYPES
from tercet.llm import LLM
from tercet.sampling.constraints import prepare_constraints
from tercet.sampling.params import SamplingParams
from tercet.service.answer_source import AnswerSource, ComputedAnswer, RememberedAnswer
from tercet.service.embedding import EmbeddingQueue, Embeddings
from tercet.service.generation import Generation, GenerationObserver
from tercet.service.guard import Allowance, current_allowance
from tercet.service.preparation import Prepared, conversation_text, is_quick, prepare, template_of
from tercet.service.request import GenerationRequest
from tercet.service.response_cache import ResponseCache, model_identity, request_key
from tercet.service.screening import current_content_guard
from tercet.service.settings import ServiceSettings
from tercet.service.tool_calls import ToolUse
from tercet.tokenization import ChatTemplate
from tercet.tokenization.chat_template import Message

__all__ = ["Embeddings", "ServedModel"]

State = Literal["loading", "ready", "draining", "closed"]
WARM_UP_TOKENS = 8
FIRST = -(2**31)
"""The priority that goes before all others."""


class _Shared:
    """What a model and its adapters have in common, and changes."""

    def __init__(self, llm: LLM) -> None:
        self.state: State = "loading"
        self._llm = llm

    @functools.cached_property
    def chat_template(self) -> ChatTemplate:
        return template_of(self._llm)


class ServedModel:
    """A model under the name that callers use.

    Args:
        name: that name.
        llm: the model; it is closed with this object.
        settings: the limits.
        observers: who hears of every request.
        cache: what remembers responses, if anything does.
    """

    def __init__(
        self,
        name: str,
        llm: LLM,
        settings: ServiceSettings | None = None,
        *,
        observers: Sequence[GenerationObserver] = (),
        cache: ResponseCache | None = None,
    ) -> None:
        self.name = name
        self.llm = llm
        self.settings = settings or ServiceSettings()
        self.base_name = name
        """The name of the model itself, where `name` is that of an adapter."""
        self.adapter: str | None = None
        """Whose answers these are, where it is an adapter's name by which callers ask."""
        self._shared = _Shared(llm)
        self._observers = observers
        self._cache = cache
        self._identity = "" if cache is None else model_identity(llm)
        self._embedding = EmbeddingQueue(llm, self.settings)
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

    @property
    def state(self) -> State:
        """Whether requests are taken: when it is "ready"."""
        return self._shared.state

    def under(self, adapter: str) -> ServedModel:
        """Return this model under the name of one of its adapters, which its answers then have."""
        model = copy.copy(self)
        model.name = model.adapter = adapter
        return model

    @property
    def chat_template(self) -> ChatTemplate:
        """What writes conversations: the model's own template, or a plain one where it came without.

        Rendering runs it in another process: not for the event loop's own thread.
        """
        return self._shared.chat_template

    async def chat_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> str:
        """Return the text of a conversation as `submit` has it read."""
        use = ToolUse(tools, tool_choice)
        return await asyncio.to_thread(lambda: conversation_text(messages, self.chat_template, use))

    @classmethod
    async def open(
        cls,
        name: str,
        path: str | None,
        settings: ServiceSettings | None = None,
        *,
        observers: Sequence[GenerationObserver] = (),
        cache: ResponseCache | None = None,
    ) -> ServedModel:
        """Load a model in a thread, start its engine and warm it up; an empty name takes the model's own.

        Raises:
            ModelNotFoundError, FormatError, UnsupportedModelError, MemoryLimitError: see `tercet.LLM`.
        """
        settings = settings or ServiceSettings()
        llm = await asyncio.to_thread(lambda: LLM(path, **settings.llm))
        model = cls(name or llm.name, llm, settings, observers=observers, cache=cache)
        try:
            await model.start()
        except BaseException:
            await model.close(0)
            raise
        return model

    async def start(self) -> None:
        """Start the engine and warm it up; requests are taken from then on."""
        await self.engine.start()
        if self.settings.warm_up:
            await self._warm_up()
        self._shared.state = "ready"

    async def close(self, drain_seconds: float | None = None) -> None:
        """Take no more requests, let those that run finish for a while, and let go of the model."""
        if self.state == "closed":
            return
        self._shared.state = "draining"
        seconds = self.settings.drain_seconds if drain_seconds is None else drain_seconds
        await asyncio.gather(self.engine.stop(seconds), self._embedding.drain(seconds))
        self._shared.state = "closed"
        self.llm.close()

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request, and return what will be its answer.

        Raises:
            ParameterError: the prompt, a sampling value or the constraint is not valid.
            ContextLengthError: the prompt is longer than it may be, or leaves no room for an answer.
            OverloadedError: too much waits already.
            UnavailableError: the model is loading, draining or out of order.
            UnsupportedModelError: the model makes embeddings.
            InvalidInputError: it asks for more than the current allowance has (see `tercet.service.guard`).
            RateLimitError: so many tokens are not left of it.
            ContentFilteredError: the current content policy keeps it out (see `tercet.service.screening`).
        """
        arrived_at = self.llm.engine.clock() if self.state != "closed" else 0.0
        try:
            return await self._submit(request, arrived_at)
        except TercetError as error:
            for observer in self._observers:
                observer.refused(self.base_name, request, error)
            raise

    async def embed(self, texts: Sequence[Prompt]) -> Embeddings:
        """Return a vector for each text.

        Raises:
            UnsupportedModelError, ContextLengthError, ParameterError: see `LLM.embed`.
            OverloadedError: too much waits already.
            DeadlineError: it took too long.
            UnavailableError: the model is loading, draining or out of order.
            InvalidInputError, RateLimitError: see `submit`.
        """
        num_tokens, error = 0, None
        try:
            self._check_ready()
            if (allowance := current_allowance()) is not None:
                await asyncio.to_thread(self._charge_texts, allowance, texts)
            embeddings = await self._embedding.embed(texts)
            num_tokens = embeddings.prompt_tokens
            return embeddings
        except BaseException as raised:
            error = raised
            raise
        finally:
            for observer in self._observers:
                observer.embedded(self.base_name, num_tokens, error)

    async def _submit(self, request: GenerationRequest, arrived_at: float) -> Generation:
        self._check_ready()
        if (allowance := current_allowance()) is not None:
            await allowance.check_in_time(request, self._length_of, is_quick(request))
        if (content := current_content_guard()) is not None:
            request = await content.admit(request, self.llm.tokenizer if self.has_tokenizer else None)
        prepared = (
            self._prepare(request) if is_quick(request) else await asyncio.to_thread(self._prepare, request)
        )
        if allowance is not None:
            asked = prepared.engine_request
            await allowance.pay(len(asked.prompt_ids) + asked.max_new_tokens)
        timeouts = self._timeouts(request)
        key = None
        if self._cache is not None:
            key = request_key(self._identity, request, prepared)
        source: AnswerSource | None = None
        if self._cache is not None and key is not None:
            found = await self._cache.find(key)
            source = None if found is None else RememberedAnswer(found, self.llm.engine.clock)
        self._check_ready()
        if source is None:
            engine_request = prepared.engine_request
            engine_request.deadline, engine_request.first_token_deadline = (
                None if seconds is None else arrived_at + seconds for seconds in timeouts
            )
            source = ComputedAnswer(self.engine.submit(engine_request), self.engine)
        if content is not None:
            source = content.answer(source, prepared.decoder)
        return Generation(
            request,
            source,
            model=self.name,
            counted_as=self.base_name,
            arrived_at=arrived_at,
            timeouts=timeouts,
            observers=self._observers,
            on_result=self._remember(key, source),
        )

    def _prepare(self, request: GenerationRequest) -> Prepared:
        if request.adapters is None and self.adapter is not None:
            request = dataclasses.replace(request, adapters={self.adapter: 1.0})
        template = None if request.messages is None else self.chat_template
        allowance = current_allowance()
        longest = None if allowance is None else allowance.config.max_output_tokens
        return prepare(request, self.llm, template, self.settings.max_prompt_tokens, longest)

    def _charge_texts(self, allowance: Allowance, texts: Sequence[Prompt]) -> None:
        allowance.check_texts(texts, self._length_of)
        if allowance.counts_tokens:
            allowance.take_tokens(sum(len(self.llm.embedding_tokens(text)) for text in texts))

    def check_length(self, field: str, content: str | Sequence[Any]) -> None:
        """Look at a text, token ids or a list of texts that nothing is generated from.

        Raises:
            InvalidInputError: it is longer than an input of the current allowance may be.
        """
        if (allowance := current_allowance()) is not None:
            allowance.check_length(field, content)

    def _length_of(self, ids: Sequence[int]) -> int:
        return len(self.llm.detokenize(ids)) if self.has_tokenizer else len(ids)

    def _remember(self, key: str | None, source: AnswerSource) -> Callable[[GenerationResult], None] | None:
        """What stores the result of a request under its key; None where it is not to be stored."""
        cache = self._cache
        if cache is None or key is None:
            return None

        def remember(result: GenerationResult) -> None:
            if not (result.response_cached or source.changed):
                cache.remember(key, result)

        return remember

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
        if self.has_tokenizer and not self.llm.makes_embeddings:
            await asyncio.to_thread(prepare_constraints, self.llm.tokenizer)

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
