"""The state of one request, from its prompt to its last token.

A request is *waiting* (it owns no memory), then *running* (it owns blocks of the KV cache), then *finished*
(it owns none again, and `finish_reason` or `error` says why). Only the engine moves it on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tercet.engine.text_output import TextOutput
from tercet.sampling.params import SamplingParams

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(eq=False)
class Request:
    """One prompt, how to continue it, and how far that has come.

    `params.seed` is a number here: where the caller gave none, one was drawn, so that every result can be
    repeated. `max_new_tokens`, at least 1, is already limited by the context. Setting `cancel_requested`
    ends the request at the next step and needs no lock, so that a finalizer may do it. Times are readings
    of the engine's clock, in seconds.
    """

    prompt_ids: list[int]
    params: SamplingParams
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    output: TextOutput | None = None

    generated_ids: list[int] = field(default_factory=list)
    num_cached: int = 0  # tokens whose keys and values are in the cache
    blocks: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: BaseException | None = None
    stop_id: int | None = None
    cancel_requested: bool = False

    submitted_at: float = 0.0
    first_token_at: float | None = None
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        """True once no more tokens will come, for whatever reason."""
        return self.finish_reason is not None or self.error is not None

    @property
    def num_tokens(self) -> int:
        """Tokens known so far: prompt and generated."""
        return len(self.prompt_ids) + len(self.generated_ids)

    @property
    def num_pending(self) -> int:
        """Known tokens not yet in the cache: the rest of the prompt, or the token sampled last."""
        return self.num_tokens - self.num_cached

    @property
    def max_cached(self) -> int:
        """The most positions it can ever need; the last token is never fed back."""
        return len(self.prompt_ids) + self.max_new_tokens - 1

    def tokens(self, begin: int, count: int) -> list[int]:
        """Token ids at positions begin .. begin + count - 1, across the border of prompt and generated."""
        num_prompt = len(self.prompt_ids)
        end = begin + count
        return (
            self.prompt_ids[begin:end]
            + self.generated_ids[max(begin - num_prompt, 0) : max(end - num_prompt, 0)]
        )
