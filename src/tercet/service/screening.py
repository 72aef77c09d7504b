"""The content policy of a caller, applied to what a model is asked and to what it answers.

    guard = ContentGuard(ContentPolicies.builtin().of(caller.policy), tell=count)
    with guard.working():
        generation = await served_model.submit(request)         # ContentFilteredError
    async for event in generation: ...                          # screened already

Whoever submits asks for the guard that is current, so that no route can go around it, and an answer keeps its
screen wherever it is read. A prompt is screened before it is tokenized. An answer leaves as far as no filter
can still object; token ids and log probabilities leave with the text that they are of, and not at all where
that was taken out. An answer that is blocked ends there: with finish_reason "content_filter" for who reads a
stream, with `ResponseFilteredError` for who waits for the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tercet.engine.request_stream import TokenEvent
from tercet.engine.result import GenerationResult
from tercet.engine.text_output import TokenDecoder
from tercet.errors import ContentFilteredError
from tercet.sampling.logprobs import TokenLogprobs
from tercet.security.content.policies import Policy
from tercet.security.content.screen import Action, Screen
from tercet.security.sanitize import plain_text
from tercet.security.validation import check_text
from tercet.service.answer_source import AnswerSource
from tercet.service.request import GenerationRequest
from tercet.service.request_texts import num_characters, with_texts

if TYPE_CHECKING:
    from tercet.tokenization import Tokenizer

__all__ = ["ContentGuard", "ScreenedAnswer", "current_content_guard"]

Tell = Callable[[Action, str, int], None]
QUICK_CHARACTERS = 1_000
"""Screening so much takes less than the way to a thread and back."""


def _tell_nobody(action: Action, category: str, times: int) -> None:
    """What happens is nobody's business."""


class ContentGuard:
    """See the module.

    Args:
        policy: what is looked for, and what is done about it; None: nothing.
        sanitize: whether control characters are refused, and what a browser would run is taken out.
        tell: hears of what was done: the action, the category, how often. Called from any thread.
    """

    def __init__(self, policy: Policy | None, *, sanitize: bool = False, tell: Tell = _tell_nobody) -> None:
        self._policy = policy
        self._sanitize = sanitize
        self._tell = tell

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Be the current guard of a block, and of the tasks and threads that it starts."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    async def admit(self, request: GenerationRequest, tokenizer: Tokenizer | None) -> GenerationRequest:
        """Return the request as the model may read it; in a thread if that takes longer.

        Raises:
            InvalidInputError: it has control characters, or half of a surrogate pair.
            ContentFilteredError: the policy keeps it out.
        """
        if self._policy is None and not self._sanitize:
            return request
        if self._policy is not None and not self._policy.is_open:
            await asyncio.to_thread(self._policy.open)
        if num_characters(request) <= QUICK_CHARACTERS:
            return self.screened(request, tokenizer)
        return await asyncio.to_thread(self.screened, request, tokenizer)

    def screened(self, request: GenerationRequest, tokenizer: Tokenizer | None) -> GenerationRequest:
        """Do what `admit` does, here and now."""
        return with_texts(request, self._look, tokenizer)

    def answer(self, source: AnswerSource, decoder: Callable[[], TokenDecoder]) -> AnswerSource:
        """Return an answer that is screened while it is read; `decoder` makes what its text was made by."""
        if self._policy is None or not self._policy.response.filters:
            return source
        return ScreenedAnswer(source, Screen(self._policy.response), decoder(), self._tell)

    def _look(self, field: str, text: str) -> str:
        check_text(field, text, control_characters=not self._sanitize)
        if self._sanitize:
            text = plain_text(text, field)
        if self._policy is None or not self._policy.prompt.filters:
            return text
        screen = Screen(self._policy.prompt)
        left = screen.push(text) + screen.finish()
        for (action, category), times in screen.counts.items():
            self._tell(action, category, times)
        if screen.blocked is not None:
            raise ContentFilteredError(
                f"{field} was refused by the content filter ({screen.blocked}); say it in other words",
                field,
            )
        return left


_CURRENT: ContextVar[ContentGuard | None] = ContextVar("tercet_content_guard", default=None)


def current_content_guard() -> ContentGuard | None:
    """What the texts of the code that asks go through; None is nothing."""
    return _CURRENT.get()


@dataclasses.dataclass
class _Token:
    """A token whose text has not left: it stands at `text[begin:end]`."""

    token_id: int
    logprob: TokenLogprobs | None
    begin: int
    end: int


class ScreenedAnswer:
    """An answer behind a screen, as an `AnswerSource`.

    Attributes:
        changed: whether it is not what the model wrote.
    """

    def __init__(self, source: AnswerSource, screen: Screen, decoder: TokenDecoder, tell: Tell) -> None:
        self.is_remembered = source.is_remembered
        self.prompt_tokens = source.prompt_tokens
        self._source = source
        self._screen = screen
        self._decoder = decoder
        self._tell = tell
        self._waiting: deque[_Token] = deque()
        self._decoded = 0  # characters that the tokens so far have given
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._ended = False
        self._last_at = 0.0

    @property
    def blocked(self) -> str | None:
        """The category that ended it, None if none did."""
        return self._screen.blocked

    @property
    def changed(self) -> bool:
        """Whether it is not what the model wrote."""
        return self._screen.changed

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._ended:
            try:
                event = await self._source.__anext__()
            except StopAsyncIteration:
                event = TokenEvent("", [], at=self._last_at)
                text = self._screen.finish()
                self._ended = True
            else:
                self._last_at = event.at
                self._take(event)
                text = self._screen.push(event.text)
            if self.blocked is not None:
                self._source.end()
                self._ended = True
            passed = self._pass(text, event.at)
            if self._ended:
                for (action, category), times in self._screen.counts.items():
                    self._tell(action, category, times)
            if passed.text or passed.token_ids:
                return passed
        raise StopAsyncIteration

    def end(self, error: BaseException | None = None) -> None:
        """Make no more of it."""
        self._source.end(error)

    def summary(self, arrived_at: float, last_at: float) -> GenerationResult:
        """What there is so far, as it has left."""
        result = self._source.summary(arrived_at, last_at)
        return dataclasses.replace(
            result,
            text="".join(self._text),
            token_ids=list(self._token_ids),
            logprobs=list(self._logprobs),
            finish_reason=result.finish_reason if self.blocked is None else "content_filter",
        )

    def _take(self, event: TokenEvent) -> None:
        """Find out which text the tokens are of."""
        logprobs: list[TokenLogprobs | None] = [*event.logprobs]
        logprobs += [None] * (len(event.token_ids) - len(logprobs))
        for token_id, logprob in zip(event.token_ids, logprobs, strict=True):
            if not self._screen.may_change:
                self._waiting.append(_Token(token_id, logprob, 0, 0))
                continue
            begin = self._decoded
            self._decoded += len(self._decoder.push(token_id))
            # One that gives nothing is a part of the character that follows.
            end = self._decoded if self._decoded > begin else begin + 1
            self._waiting.append(_Token(token_id, logprob, begin, end))

    def _pass(self, text: str, at: float) -> TokenEvent:
        """What leaves now: the text, and the tokens whose text has left to its end."""
        ids: list[int] = []
        logprobs: list[TokenLogprobs] = []
        all_left = self._ended and self.blocked is None
        while self._waiting and (all_left or self._waiting[0].end <= self._screen.at):
            token = self._waiting.popleft()
            if any(token.begin < end and begin < token.end for begin, end in self._screen.removed):
                continue
            ids.append(token.token_id)
            if token.logprob is not None:
                logprobs.append(token.logprob)
        self._text.append(text)
        self._token_ids += ids
        self._logprobs += logprobs
        return TokenEvent(text, ids, logprobs, at)
