"""A service as a Python object: many requests at once in one program, without HTTP.

import asyncio
from tercet import AsyncLLM

async def main():
    async with AsyncLLM() as llm:
        response = await llm.generate({"prompt": "Once upon a time", "max_tokens": 50})
        print(response.text, response.metadata["tokens_per_second"])
        responses = await llm.generate_batch([{"prompt": word} for word in ("A dog", "A cat")])

asyncio.run(main())
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tercet.environment import optional_import
from tercet.errors import ParameterError, UnavailableError
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings
from tercet.service.text_request import TextRequest, TextResponse, text_request

if TYPE_CHECKING:
    from tercet.service.logs import Logs

__all__ = ["AsyncLLM", "ResponseStream"]

AnyRequest = TextRequest | Mapping[str, Any]


class AsyncLLM:
    """A model, or several, that answers many requests of one program at once. For one event loop.

    Args:
        model: name or path, as for `LLM`; None is the model that ships with the package.
        models: further ones, name -> name or path; requests choose by name.
        max_concurrent: requests that run at once; the others wait.
        max_queued_requests: requests that may wait; one more is refused with `OverloadedError`.
        max_queued_tokens: tokens of prompts that may wait.
        max_prompt_tokens: longest prompt; a longer one is an error, and never cut.
        timeout_seconds: for a whole request, waiting included; None for no limit.
        first_token_timeout_seconds: for the beginning of an answer; None for no limit of its own.
        response_cache: where whole responses are remembered, of greedy requests and of those with a seed:
            "memory", a file of SQLite, a URL of Redis (`redis://...`), or None for nowhere.
        max_cached_responses: most of them.
        cache_ttl_seconds: how long one is remembered.
        warm_up: whether a model answers a short prompt before the first request.
        log_level: "debug", "info", "warning" or "error": JSON lines on the console; None for none there.
        log_file: JSON lines in a file, which is rotated; None for none.
        log_requests: whether the log has a line for each request: ids and counts, never text.
        options: further options of `LLM`, as `threads=2`.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        models: Mapping[str, str | None] | None = None,
        max_concurrent: int = 10,
        max_queued_requests: int = 512,
        max_queued_tokens: int = 65_536,
        max_prompt_tokens: int = 2_048,
        timeout_seconds: float | None = 30.0,
        first_token_timeout_seconds: float | None = None,
        response_cache: str | None = "memory",
        max_cached_responses: int = 1_024,
        cache_ttl_seconds: float = 3_600.0,
        warm_up: bool = True,
        log_level: str | None = None,
        log_file: str | None = None,
        log_requests: bool = True,
        **options: Any,
    ) -> None:
        self._settings = ServiceSettings(
            models={"": model, **(models or {})},
            llm=options,
            max_concurrent=max_concurrent,
            max_queued_requests=max_queued_requests,
            max_queued_tokens=max_queued_tokens,
            max_prompt_tokens=max_prompt_tokens,
            timeout_seconds=timeout_seconds,
            first_token_timeout_seconds=first_token_timeout_seconds,
            response_cache=response_cache,
            max_cached_responses=max_cached_responses,
            cache_ttl_seconds=cache_ttl_seconds,
            warm_up=warm_up,
            log_requests=log_requests,
        )
        self._service = Service(self._settings)
        self._starting = asyncio.Lock()
        self._numbers = itertools.count()
        self._log_level, self._log_file = log_level, log_file
        self._logs: Logs | None = None

    # Life -------------------------------------------------------------------------------------------

    async def initialize(self) -> None:
        """Load and warm up what was named; the first request does it where nobody has. Once is enough.

        Raises:
            ModelNotFoundError, FormatError, UnsupportedModelError, MemoryLimitError: see `LLM`.
            MissingExtraError: the response cache or the log needs a package that is not installed.
            UnavailableError: it has been closed.
        """
        async with self._starting:
            if self._service.state == "ready":
                return
            if self._service.state in ("draining", "stopped"):
                raise UnavailableError("this AsyncLLM has been closed; make a new one")
            if self._settings.response_cache is not None:
                optional_import("cachetools", "server")
            self._open_logs()
            if self._service.state == "failed":  # try again: what was missing may be there now
                self._service = Service(self._settings)
            await self._service.start()

    async def close(self, drain_seconds: float | None = None) -> None:
        """Take no more requests, let those that run finish for a while, end the rest, free everything."""
        await self._service.stop(drain_seconds)
        if self._logs is not None:
            await asyncio.to_thread(self._logs.close)
            self._logs = None

    async def __aenter__(self) -> AsyncLLM:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(None if error is None else 0)

    def _open_logs(self) -> None:
        if self._logs is None and (self._log_level is not None or self._log_file is not None):
            optional_import("structlog", "server")
            from tercet.service import logs

            console = None if self._log_level is None else sys.stderr
            self._logs = logs.configure(self._log_level or "info", self._log_file, console=console)

    # Requests ---------------------------------------------------------------------------------------

    async def generate(self, request: AnyRequest) -> TextResponse:
        """Answer one request.

        Raises:
            ParameterError: the request is not valid.
            ContextLengthError: its prompt is longer than it may be.
            OverloadedError: too much waits already; the error says when to try again.
            DeadlineError: it took too long.
            ModelNotFoundError: no model has the name.
            ForbiddenError: the caller for whom this runs may not use it (`tercet.security.identity.calling`).
        """
        asked = self._request(request)
        if asked.stream:
            raise ParameterError("a request with stream=True is read piece by piece: use stream(request)")
        return await self._answer(asked)

    async def generate_batch(self, requests: Iterable[AnyRequest]) -> list[TextResponse]:
        """Answer many requests, as many at once as may run, in their order.

        A request that fails has `success=False` and says why; the others go on. One without an id is
        called `req_0`, `req_1`, ... by its place.
        """
        items = list(requests)
        responses: list[TextResponse | None] = [None] * len(items)
        places = iter(range(len(items)))

        async def work() -> None:
            for place in places:
                responses[place] = await self._answer_or_tell(items[place], f"req_{place}")

        await self.initialize()
        workers = [asyncio.ensure_future(work()) for _ in range(self._settings.max_concurrent or 1)]
        try:
            await asyncio.gather(*workers)
        finally:  # if this one is cancelled, so is its work
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [response for response in responses if response is not None]

    async def stream(self, request: AnyRequest) -> ResponseStream:
        """Begin to answer one request; raises what `generate` does, as soon as it is known."""
        asked = self._request(request)
        return ResponseStream(await self._submit(asked), asked)

    # Looking inside ---------------------------------------------------------------------------------

    def metrics(self) -> dict[str, float | int | None]:
        """What has been done so far: requests by how they ended, times, tokens, cache, memory."""
        return self._service.metrics.summary()

    async def health_check(self) -> dict[str, Any]:
        """Have a token generated, and tell whether that worked and how all is set up."""
        return await self._service.health.report()

    # Models -----------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """Names of the models that are loaded, the default first."""
        return self._service.pool.names()

    async def load(self, name: str, model: str | None = None) -> None:
        """Load a further model under a name; raises what `initialize` does, and ParameterError if taken."""
        await self.initialize()
        await self._service.pool.load(name, model)

    async def unload(self, name: str) -> None:
        """Let go of a model when what runs there has finished; ModelNotFoundError if there is none."""
        await self._service.pool.unload(name)

    async def reload(self, name: str, model: str | None = None) -> None:
        """Replace a model by another file, or by what its own file now holds, without a gap."""
        await self._service.pool.reload(name, model)

    # From a request to its response -----------------------------------------------------------------

    def _request(self, request: AnyRequest, default_id: str | None = None) -> TextRequest:
        return text_request(request, default_id or f"req_{next(self._numbers)}")

    async def _submit(self, request: TextRequest) -> Generation:
        await self.initialize()
        return await self._service.submit(
            GenerationRequest(
                id=request.id or "",
                prompt=request.prompt,
                messages=request.messages,
                params=request.params(),
                model=request.model,
                timeout_seconds=request.timeout_seconds,
                stream=request.stream,
                metadata=request.metadata,
            )
        )

    async def _answer(self, request: TextRequest) -> TextResponse:
        generation = await self._submit(request)
        try:
            result = await generation.result()
        finally:
            await generation.cancel()  # does nothing where it has ended
        return TextResponse.of(request, result)

    async def _answer_or_tell(self, request: AnyRequest, default_id: str) -> TextResponse:
        """Whatever goes wrong with one request, a bug of ours included, ends that one alone."""
        try:
            asked = self._request(request, default_id)
        except Exception as error:
            given = request.get("id") if isinstance(request, Mapping) else None
            return TextResponse.failed(TextRequest(id=str(given or default_id), prompt=""), error)
        try:
            return await self._answer(asked)
        except Exception as error:
            return TextResponse.failed(asked, error)


class ResponseStream(AsyncIterator[str]):
    """Iterate to get the text piece by piece; after the end, `response` has the whole and the figures.

    Dropping or closing it ends the generation.
    """

    def __init__(self, generation: Generation, request: TextRequest) -> None:
        self._generation = generation
        self._request = request

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> str:
        async for event in self._generation:
            if event.text:
                return event.text
        raise StopAsyncIteration

    @property
    def response(self) -> TextResponse:
        """The whole, once it has ended.

        Raises:
            ParameterError: it has not ended yet.
        """
        if self._generation.outcome is None:
            raise ParameterError("the stream has not ended: read it to its end, or close it")
        return TextResponse.of(self._request, self._generation.summary)

    async def aclose(self) -> None:
        """End the generation; what has come so far stays in `response`."""
        await self._generation.cancel()
