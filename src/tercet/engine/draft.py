"""Guesses of a second, smaller model with the same tokens.

The draft model has its own cache, of as many blocks as the engine's, and reads along: what a request has
got since the last time, then its own guesses one after the other, all requests in one batch. It draws them
by the request's own sampling, random numbers included, so that a draft that is as good as the model agrees
with it always. Of wrong guesses nothing remains: the draft goes back to the last token that was right.
"""

from __future__ import annotations

from collections.abc import Sequence

from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk
from tercet.engine.request import Request
from tercet.engine.runner import Runner
from tercet.engine.sequence_blocks import publish_blocks, release_blocks, take_blocks

__all__ = ["DraftModel"]


class DraftModel:
    """Proposes what a smaller model would say.

    Args:
        runner: the draft's decoder and cache.
        pool: the blocks of that cache.
        max_context: most tokens that the draft can read; longer texts get no guesses.
    """

    def __init__(self, runner: Runner, pool: KvBlockPool, max_context: int) -> None:
        self._runner = runner
        self._pool = pool
        self._max_context = max_context
        self._shadows: dict[Request, Request] = {}  # each request as the draft sees it, guesses included

    def propose(self, requests: Sequence[Request], counts: Sequence[int]) -> list[list[int]]:
        """Draw `counts[i]` tokens after those of each request; none where text or memory do not suffice."""
        shadows = [
            self._shadow(request) if request.num_tokens + count <= self._max_context else None
            for request, count in zip(requests, counts, strict=True)
        ]
        for num_drawn in range(max(counts)):
            drawing = [
                shadow
                for shadow, count in zip(shadows, counts, strict=True)
                if shadow is not None and num_drawn < count
            ]
            self._draw(drawing)
        return [
            [] if shadow is None else shadow.generated_ids[len(request.generated_ids) :]
            for request, shadow in zip(requests, shadows, strict=True)
        ]

    def forget(self, request: Request) -> None:
        """Give the draft's memory of a request back."""
        if (shadow := self._shadows.pop(request, None)) is not None:
            release_blocks(self._pool, shadow)

    def _shadow(self, request: Request) -> Request | None:
        shadow = self._shadows.get(request)
        if shadow is None:
            shadow = Request(
                request.prompt_ids, request.params, request.max_new_tokens, cache_salt=request.cache_salt
            )
            if not take_blocks(self._pool, shadow, shadow.max_cached):
                return None
            self._shadows[request] = shadow
        shadow.generated_ids = list(request.generated_ids)
        # Right guesses, one draw of the engine, and what the draft read behind the first wrong guess.
        shadow.num_cached = min(shadow.num_cached, request.num_tokens - 1)
        publish_blocks(self._pool, shadow)
        return shadow

    def _draw(self, shadows: Sequence[Request]) -> None:
        if not shadows:
            return
        logits = self._runner.run([Chunk(shadow, shadow.num_pending, samples=True) for shadow in shadows])
        for row, shadow in zip(logits, shadows, strict=True):
            shadow.num_cached = shadow.num_tokens
            shadow.generated_ids.append(self._runner.sample(row, shadow))
