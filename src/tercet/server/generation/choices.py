"""The n answers to one request: submitted together, read together, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from tercet.engine.request_stream import TokenEvent
from tercet.engine.result import GenerationResult
from tercet.errors import UnavailableError
from tercet.service.generation import Generation
from tercet.service.guard import current_allowance
from tercet.service.request import GenerationRequest

__all__ = ["Choices", "Submitter", "finish_reason"]

MAX_UNREAD_EVENTS = 256
"""Of all choices together, between their readers and the client; what waits beyond, the engine counts."""


class Submitter(Protocol):
    """Who takes requests: a service, or one model of it."""

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request."""


class Choices:
    """Generations that stand or fall together: when one fails, or the reader leaves, all are cancelled."""

    def __init__(self, generations: list[Generation]) -> None:
        self.generations = generations

    @classmethod
    async def submit(cls, submitter: Submitter, requests: Iterable[GenerationRequest]) -> Choices:
        """Queue all, or none: what refuses one of them ends those before it.

        Raises:
            TercetError: what `submit` raises.
            InvalidInputError: they are more than the current allowance has.
        """
        requests = list(requests)
        if (allowance := current_allowance()) is not None:
            allowance.check_answers(len(requests))
        choices = cls([])
        try:
            for request in requests:
                choices.generations.append(await submitter.submit(request))
        except BaseException:
            await choices.cancel()
            raise
        return choices

    @property
    def headers(self) -> dict[str, str]:
        """What the header of the answer says of them: whether it was remembered, if that was looked for."""
        if all(generation.response_cached for generation in self.generations):
            return {"X-Tercet-Cache": "hit"}
        looked_for = any(generation.may_be_remembered for generation in self.generations)
        return {"X-Tercet-Cache": "miss"} if looked_for else {}

    async def cancel(self) -> None:
        """End those that have not ended."""
        for generation in self.generations:
            await generation.cancel()

    async def results(self) -> list[GenerationResult]:
        """Wait for all, in their order."""
        try:
            return await asyncio.gather(*(generation.result() for generation in self.generations))
        finally:
            await self.cancel()

    async def events(self) -> AsyncGenerator[tuple[int, TokenEvent | GenerationResult], None]:
        """Give what comes, with the index of its choice; the last of each choice is its result."""
        try:
            if len(self.generations) == 1:
                async for event in self.generations[0]:
                    yield 0, event
                yield 0, await self.generations[0].result()
            else:
                async for item in self._merged():
                    yield item
        finally:
            await self.cancel()

    async def _merged(self) -> AsyncGenerator[tuple[int, TokenEvent | GenerationResult], None]:
        queue: asyncio.Queue[tuple[int, TokenEvent | GenerationResult | Exception]]
        queue = asyncio.Queue(MAX_UNREAD_EVENTS)

        async def read(index: int, generation: Generation) -> None:
            try:
                async for event in generation:
                    await queue.put((index, event))
                await queue.put((index, await generation.result()))
            except Exception as error:
                await queue.put((index, error))

        readers = [asyncio.ensure_future(read(*one)) for one in enumerate(self.generations)]
        try:
            running = len(readers)
            while running:
                index, item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                running -= isinstance(item, GenerationResult)
                yield index, item
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


def finish_reason(result: GenerationResult) -> str:
    """Return "stop", "length" or "content_filter".

    Raises:
        UnavailableError: the generation was ended from outside.
    """
    if result.finish_reason == "cancelled":
        raise UnavailableError("the answer was cut off, because the model is being stopped; try again")
    return result.finish_reason
