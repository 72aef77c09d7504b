"""The state of one request, from its prompt to its last token.

A request is *waiting* (it owns no memory), then *running* (it owns blocks of the KV cache, the first of which
it may share with others), then *finished* (it owns none again, and `finish_reason` or `error` says why).
Only the engine moves it on.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Literal

from tercet.engine.adapters import ChosenAdapter, adapter_salt
from tercet.engine.prefix_index import block_key, root_key
from tercet.engine.text_output import TextOutput
from tercet.sampling.logprobs import TokenLogprobs
from tercet.sampling.params import SamplingParams
from tercet.sampling.token_constraint import TokenConstraint

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(eq=False)
class Request:
    """One prompt, how to continue it, and how far that has come.

    `params.seed` is a number here: where the caller gave none, one was drawn, so that every result can be
    repeated. `max_new_tokens`, at least 1, is already limited by the context. Setting `cancel_requested`
    ends the request at the next step (`Engine.cancel_soon` for one that may still wait); with `cancel_error`
    it then ends with that error. Times are readings of the engine's clock, in seconds.
    """

    prompt_ids: list[int]
    params: SamplingParams
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    output: TextOutput | None = None
    cache_salt: bytes = b""  # only requests with the same one use each other's keys and values
    adapters: tuple[ChosenAdapter, ...] = ()  # and the same of these
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    priority: int = 0  # a lower one runs first
    tenant: str = ""  # requests of one priority take turns by tenant, however many each has sent
    deadline: float | None = None  # when the whole request must have ended
    first_token_deadline: float | None = None  # when its first token must have come
    constraint: TokenConstraint | None = None  # what tokens may follow; it has read the generated ones

    generated_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)  # of the generated ones, if params ask for it
    num_cached: int = 0  # tokens whose keys and values are in the cache
    num_reused: int = 0  # those of them that an earlier request had left there
    blocks: list[int] = field(default_factory=list)
    num_published: int = 0  # blocks from the first on that others may read
    block_keys: list[bytes] = field(default_factory=list)

    proposed_ids: list[int] = field(default_factory=list)  # guesses at what follows, checked by the next step
    num_proposed: int = 0  # guesses that steps have checked
    num_accepted: int = 0  # those that were right
    num_draws: int = 0  # steps after which at least one token was drawn

    finish_reason: FinishReason | None = None
    error: BaseException | None = None
    stop_id: int | None = None
    cancel_requested: bool = False
    cancel_error: BaseException | None = None

    number: int = -1  # how many were submitted before it
    is_running: bool = False
    num_preemptions: int = 0  # how often it lost its memory to another, and had to compute it again
    num_lost: int = 0  # tokens that were in the cache when it lost it the last time
    submitted_at: float = 0.0
    started_at: float | None = None  # when it was given memory for the first time
    first_token_at: float | None = None
    finished_at: float | None = None
    draw_seconds: float = 0.0  # spent on drawing its tokens from logits

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

    @property
    def is_generating(self) -> bool:
        """Whether everything but the token that was drawn last is in the cache."""
        return self.num_pending == 1 and bool(self.generated_ids)

    def tokens(self, begin: int, count: int) -> list[int]:
        """Token ids at positions begin .. begin + count - 1: of the prompt, then generated, then proposed."""
        num_prompt, end = len(self.prompt_ids), begin + count
        ids = self.prompt_ids[begin:end]
        if end > num_prompt:
            ids += self.generated_ids[max(begin - num_prompt, 0) : end - num_prompt]
        if end > self.num_tokens:
            ids += self.proposed_ids[max(begin - self.num_tokens, 0) : end - self.num_tokens]
        return ids

    def prefix_keys(self, num_blocks: int, block_tokens: int) -> list[bytes]:
        """Names of the first blocks, all full of tokens that are known (`tercet.engine.prefix_index`)."""
        keys = self.block_keys
        while len(keys) < num_blocks:
            parent = keys[-1] if keys else root_key(adapter_salt(self.adapters, self.cache_salt))
            keys.append(block_key(parent, self.tokens(len(keys) * block_tokens, block_tokens)))
        return keys[:num_blocks]
