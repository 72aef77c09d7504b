"""A model for clients whom one does not trust, in one's own program: limits and filters without HTTP.

import asyncio
from tercet import SecureLLM

async def main():
    async with SecureLLM() as llm:
        response = await llm.secure_generate("Once upon a time", client_id="reader-7", max_tokens=50)
        print(response.text)

asyncio.run(main())

What a server would refuse is an exception with the same word in its `code`: RATE_LIMIT_EXCEEDED (with
`retry_after` in seconds), INVALID_INPUT, CONTENT_FILTERED, RESPONSE_FILTERED, GENERATION_ERROR.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from types import TracebackType
from typing import Any

from tercet.errors import GenerationError, InvalidInputError, ResponseFilteredError, TercetError
from tercet.security.config import SecurityConfig
from tercet.security.content.policies import Policy
from tercet.security.content.policy_file import open_policies
from tercet.security.identity import Caller, calling
from tercet.service.async_llm import AsyncLLM
from tercet.service.guard import NO_QUOTA, Allowance, Guard, Quota
from tercet.service.screening import ContentGuard
from tercet.service.text_request import TextResponse

__all__ = ["SecureLLM"]

LONGEST_CLIENT_ID = 256


class SecureLLM:
    """A model behind limits and filters, for one event loop. Clients are whoever the program says they are.

    Args:
        model: name or path, as for `LLM`; None is the model that ships with the package.
        security: the settings in force; None is `SecurityConfig()`, which is strict.
        content_policy: what is done about what filters find: "block", "flag", "redact", "off" or a file.
        options: further options of `AsyncLLM`, as `max_concurrent=4` or `threads=2`.

    Raises:
        MissingExtraError: the settings need the extra `security`, which is not installed.
        ParameterError: an option is not valid.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        security: SecurityConfig | None = None,
        content_policy: str = "block",
        **options: Any,
    ) -> None:
        self.security = SecurityConfig() if security is None else security
        self._guard = Guard(self.security)
        self._policy: Policy | None = None
        if self.security.enable_content_filtering:
            self._policy = open_policies(content_policy).of(None)
        self._llm = AsyncLLM(model, log_requests=self.security.log_requests, **options)

    # Life -------------------------------------------------------------------------------------------

    async def initialize(self) -> None:
        """Load the model; the first request does it where nobody has. See `AsyncLLM.initialize`."""
        await self._llm.initialize()

    async def close(self, drain_seconds: float | None = None) -> None:
        """Let requests that run finish for a while, end the rest, free everything."""
        await self._llm.close(drain_seconds)

    async def __aenter__(self) -> SecureLLM:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(None if error is None else 0)

    # Requests ---------------------------------------------------------------------------------------

    async def secure_generate(
        self, prompt: str | None = None, client_id: str = "", *, quota: Quota = NO_QUOTA, **fields: Any
    ) -> TextResponse:
        """Answer one request of a client.

        Args:
            prompt: the text to continue; None where `messages` are given instead.
            client_id: whose request it is: whatever the program knows its clients by.
            quota: numbers of this client, in place of those of the settings.
            fields: further fields of `TextRequest`, and of `SamplingParams`: `max_tokens=50`, `seed=7`.

        Raises:
            RateLimitError: the client has used what it may use; `retry_after` says when to come back.
            InvalidInputError: the request is longer, or asks for more, than it may.
            ContentFilteredError, ResponseFilteredError: prompt or answer was kept back by the filters.
            GenerationError: the answer failed inside.
            TercetError: what `AsyncLLM.generate` raises besides.
        """
        name = _name_of(client_id)
        allowance = self._guard.allowance(name, quota)
        with allowance.place(), _faults(), self._rules(allowance, name):
            await allowance.admit()
            return await self._llm.generate(self._request(prompt, fields))

    async def secure_stream(
        self, prompt: str | None = None, client_id: str = "", *, quota: Quota = NO_QUOTA, **fields: Any
    ) -> AsyncGenerator[str, None]:
        """Give the answer piece by piece; raises what `secure_generate` does.

        A piece that has been given has passed the filters. One that would not pass ends the stream.
        """
        name = _name_of(client_id)
        allowance = self._guard.allowance(name, quota)
        with allowance.place(), _faults():
            with self._rules(allowance, name):
                await allowance.admit()
                stream = await self._llm.stream({**self._request(prompt, fields), "stream": True})
            try:
                async for piece in stream:
                    yield piece
                if stream.response.finish_reason == "content_filter":
                    raise ResponseFilteredError("the rest of the answer was kept back by the content filter")
            finally:
                await stream.aclose()

    def metrics(self) -> dict[str, float | int | None]:
        """What has been done so far, as `AsyncLLM.metrics` counts it."""
        return self._llm.metrics()

    @contextlib.contextmanager
    def _rules(self, allowance: Allowance, name: str) -> Iterator[None]:
        """Have limits and filters hold for what is submitted, and share nothing among clients."""
        content = ContentGuard(self._policy, sanitize=self.security.sanitize_inputs)
        with allowance.current(), content.working(), calling(Caller(key_id=name)):
            yield

    @staticmethod
    def _request(prompt: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return fields if prompt is None else {"prompt": prompt, **fields}


def _name_of(client_id: str) -> str:
    if not isinstance(client_id, str) or not 0 < len(client_id) <= LONGEST_CLIENT_ID:
        raise InvalidInputError(
            f"client_id is a string of 1 to {LONGEST_CLIENT_ID} characters: name whose request it is",
            "client_id",
        )
    return f"client:{client_id}"


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """What is no error of a caller is one of ours."""
    try:
        yield
    except (TercetError, asyncio.CancelledError):
        raise
    except Exception as fault:
        raise GenerationError("the answer failed inside; the error's cause says where") from fault
