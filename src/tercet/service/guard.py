"""The security settings, applied to whatever runs: requests over HTTP, and `SecureLLM` without a server.

    guard = Guard(SecurityConfig())
    allowance = guard.allowance("client-1")
    with allowance.place(), allowance.current():  # RateLimitError: too many at one time
        await allowance.admit()                 # RateLimitError: too many in a minute
        await service.submit(request)           # InvalidInputError; RateLimitError: too many tokens

Who makes the allowance says whose it is. It is the current one of everything that runs inside of `current`,
and models ask for it themselves, so no route can forget to. Without one nothing is limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.environment import optional_import
from tercet.sampling.params import LARGEST_COUNT
from tercet.security import request_limits as checks
from tercet.security.config import SecurityConfig
from tercet.security.parallel import ParallelLimits
from tercet.service.request import GenerationRequest

if TYPE_CHECKING:
    from tercet.security.rate_limits import Counted, RateLimits, Window

__all__ = ["CONSTRAINT", "NO_QUOTA", "Allowance", "Guard", "Quota", "current_allowance"]

CONSTRAINT = "the form of the answer"
"""The field of an error about a constraint, for routes to replace by the one that asked for it."""
MOST_BYTES_PER_TOKEN = 4
"""A text of so many characters as may be has at most this many tokens for each: the bytes of a character."""
LengthOf = Callable[[Sequence[int]], int]


@dataclass(frozen=True)
class Quota:
    """What one client may use; None is what the settings say."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel_requests: int | None = None


NO_QUOTA = Quota()


class Guard:
    """See the module. Safe in threads.

    Args:
        config: the settings in force.
        limits: counts requests and tokens; None opens what the settings name.

    Raises:
        MissingExtraError: requests are to be counted, and a package for that is not installed.
        ParameterError: the storage of the settings cannot be used.
    """

    def __init__(self, config: SecurityConfig, limits: RateLimits | None = None) -> None:
        self.config = config
        self.parallel = ParallelLimits()
        self._limits = limits
        self._opening = threading.Lock()
        if config.counts_requests:
            _ = self.limits

    @property
    def limits(self) -> RateLimits:
        """What counts, opened when it is first needed: a key may have a quota where nobody else has."""
        with self._opening:
            if self._limits is None:
                optional_import("limits", "security")
                from tercet.security.rate_limits import RateLimits

                self._limits = RateLimits(self.config.rate_limit_storage, self.config.rate_limit_fail_mode)
            return self._limits

    def allowance(self, client: str, quota: Quota = NO_QUOTA, counted: bool = True) -> Allowance:
        """Return what a client may use for one piece of work; `counted` is whether limits of time hold."""
        config = self.config
        chosen = Quota(
            quota.requests_per_minute or config.rate_limit_requests_per_minute,
            quota.tokens_per_minute or config.rate_limit_tokens_per_minute,
            quota.max_parallel_requests or config.max_parallel_requests,
        )
        return Allowance(self, client, chosen if counted else NO_QUOTA)


class Allowance:
    """What one client may use, while one piece of work is done for it.

    Attributes:
        windows: what the client has left of what has been counted, for the headers of an answer.
    """

    def __init__(self, guard: Guard, client: str, quota: Quota) -> None:
        self.config = guard.config
        self.windows: dict[Counted, Window] = {}
        self._guard, self._client, self._quota = guard, client, quota

    @property
    def counts_tokens(self) -> bool:
        """Whether `take_tokens` looks at anything."""
        return self._quota.tokens_per_minute is not None

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Be one of the things that are done for the client at one time.

        Raises:
            RateLimitError: it has as many under way as it may have.
        """
        limit = self._quota.max_parallel_requests
        if limit is None:
            yield
            return
        self._guard.parallel.enter(self._client, limit)
        try:
            yield
        finally:
            self._guard.parallel.leave(self._client)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Be the allowance of what a block does, and the tasks and threads that it starts."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    async def admit(self) -> None:
        """Count a request without holding up an event loop; raises what `RateLimits.take` does."""
        await self._in_time(self.take_request, self._quota.requests_per_minute)

    async def pay(self, tokens: int) -> None:
        """Count tokens without holding up an event loop; raises what `RateLimits.take` does."""
        await self._in_time(functools.partial(self.take_tokens, tokens), self._quota.tokens_per_minute)

    async def _in_time(self, take: Callable[[], None], limit: int | None) -> None:
        if limit is not None and self._guard.limits.blocks:
            await asyncio.to_thread(take)
        else:
            take()

    def take_request(self) -> None:
        """Count a request; raises what `RateLimits.take` does."""
        self._take("requests", 1, self._quota.requests_per_minute)

    def take_tokens(self, tokens: int) -> None:
        """Count tokens, those that an answer may have among them; raises what `RateLimits.take` does."""
        self._take("tokens", tokens, self._quota.tokens_per_minute)

    def _take(self, counted: Counted, amount: int, limit: int | None) -> None:
        if limit is not None:
            self.windows[counted] = self._guard.limits.take(counted, self._client, amount, limit)

    async def check_in_time(self, request: GenerationRequest, length_of: LengthOf, is_quick: bool) -> None:
        """Do what `check` does; in a thread unless it is quick: schemas and conversations may be large."""
        if is_quick or not self.config.limits_requests:
            self.check(request, length_of)
        else:
            await asyncio.to_thread(self.check, request, length_of)

    def check(self, request: GenerationRequest, length_of: LengthOf) -> None:
        """Look at all that a request asks for; `length_of` gives the characters of token ids.

        Raises:
            InvalidInputError: something of it is more than it may be.
        """
        config, params = self.config, request.params
        if config.max_input_length is not None:
            field = "prompt" if request.messages is None else "messages"
            checks.check_text(config, field, _input_length(request, length_of, config.max_input_length))
        checks.check_sampling(config, params.stop, params.logit_bias)
        if "max_tokens" in params.explicit and params.max_tokens < LARGEST_COUNT:
            checks.check_output(config, params.max_tokens)
        checks.check_tools(config, request.tools or ())
        if request.constraint is not None:
            checks.check_constraint(config, CONSTRAINT, request.constraint.kind, request.constraint.value)

    def check_texts(self, texts: Sequence[str | Sequence[int]], length_of: LengthOf) -> None:
        """Look at texts that are to become vectors: all together are one input.

        Raises:
            InvalidInputError: they are longer than an input may be.
        """
        if (limit := self.config.max_input_length) is not None:
            checks.check_text(self.config, "input", sum(_length(text, length_of, limit) for text in texts))

    def check_length(self, field: str, content: str | Sequence[object]) -> None:
        """Look at a text, or at texts and token ids in a row, of which each id counts as a character.

        Raises:
            InvalidInputError: it is longer than an input may be.
        """
        parts = [content] if isinstance(content, str) else content
        found = sum(len(part) if isinstance(part, str) else 1 for part in parts)
        checks.check_text(self.config, field, found)

    def check_answers(self, answers: int) -> None:
        """Look at how many answers a request asks for: `n` or `best_of`, for each of its prompts.

        Raises:
            InvalidInputError: they are more than there may be.
        """
        checks.check_choices(self.config, answers)


_CURRENT: ContextVar[Allowance | None] = ContextVar("tercet_allowance", default=None)


def current_allowance() -> Allowance | None:
    """What the code that asks may use; None is all there is."""
    return _CURRENT.get()


def _input_length(request: GenerationRequest, length_of: LengthOf, limit: int) -> int:
    if request.prompt is not None:
        return _length(request.prompt, length_of, limit)
    return checks.text_length(request.messages) + checks.text_length(request.tools, with_names=True)


def _length(text: str | Sequence[int], length_of: LengthOf, limit: int) -> int:
    """Characters; of token ids those of their text, unless they are so many that it must be too long."""
    if isinstance(text, str) or len(text) > MOST_BYTES_PER_TOKEN * limit:
        return len(text)
    return length_of(text)
