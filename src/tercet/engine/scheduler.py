"""Who computes what in which step, and what becomes of it: a state machine without clock, arrays or threads.

    scheduler.submit(request)                     a request waits
    scheduler.plan()                              who ends, who loses memory, who begins; the tokens of a step
    scheduler.commit(chunks, draw)                what was computed is in the cache; tokens are drawn
    scheduler.cancel(request), fail(...)          a request ends
    scheduler.now = seconds                       time has passed

**Memory is taken as it is needed.** A request begins with blocks for what is known of it and takes others
as its answer grows. When there are none left, whoever has the lowest priority, of these the one that came
last, is *preempted*: it gives all its blocks back and waits, keeps its tokens, and computes them again when
its turn comes. A row's bits do not depend on how tokens were cut into steps, so its answer is the same. The
one that may not be preempted always gets on, hence all end: every request alone fits into the pool, and who
has been preempted three times is passed over as long as there are others.

**Steps are shared.** Everybody who generates gets a token in every step, what is left of the step goes to
prompts (`tercet.engine.plan`). `tercet.engine.waiting_queue` says who is next. A request of higher priority
does not wait for memory or a place that ones of lower priority hold: it takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tercet.engine.deadlines import Deadlines
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import Chunk, StepLimits, plan_step
from tercet.engine.request import FinishReason, Request
from tercet.engine.sequence_blocks import (
    extend_blocks,
    publish_blocks,
    reads_what_is_missing,
    release_blocks,
    take_blocks,
)
from tercet.engine.stats import EngineStats
from tercet.engine.waiting_queue import AGE_TURN, TenantShares, WaitingQueue
from tercet.errors import ContextLengthError, DeadlineError

__all__ = ["Scheduler"]

MOST_PREEMPTIONS = 3
"""How often a request may be preempted while others could be."""


class Scheduler:
    """Moves requests from waiting through running to finished.

    Args:
        pool: the blocks of the cache. Whoever takes some of them for other things returns them before `plan`.
        limits: how large a step may become.
        released: called with each request that has ended or been preempted, its memory being gone.
        checked: called with a request, how many guesses of it a step has checked, and how many were right.
    """

    def __init__(
        self,
        pool: KvBlockPool,
        limits: StepLimits,
        released: Callable[[Request], None] = lambda request: None,
        checked: Callable[[Request, int, int], None] = lambda request, proposed, accepted: None,
    ) -> None:
        self.pool = pool
        self.limits = limits
        self.now = 0.0
        self._released = released
        self._checked = checked
        self._forget()
        self._counts = EngineStats(num_blocks=pool.num_blocks)
        self._sizes: dict[int, int] = {}

    def _forget(self) -> None:
        self.running: list[Request] = []
        self._shares = TenantShares()
        self._queue = WaitingQueue(self._shares)
        self._deadlines = Deadlines()

    @property
    def has_work(self) -> bool:
        """Whether any request has not ended."""
        return bool(self.running or self._queue)

    def check(self, request: Request) -> None:
        """Raise ContextLengthError where a request could need more than the whole pool."""
        if self.pool.blocks_for(request.max_cached) > self.pool.num_blocks:
            raise ContextLengthError(
                f"the request may need {request.max_cached} tokens of context and the KV cache holds "
                f"{self.pool.num_blocks * self.pool.block_tokens}; shorten the prompt or lower max_tokens"
            )

    def submit(self, request: Request) -> None:
        """Let a new request wait."""
        self.check(request)
        request.number = self._counts.started
        self._counts.started += 1
        self._shares.enter(request.tenant)
        self._queue.add(request)
        self._deadlines.add(request)

    def cancel(self, request: Request) -> None:
        """End a request, unless it has ended; with its `cancel_error` if it has one."""
        if not request.finished and (request.is_running or request in self._queue):
            self._counts.aborted += 1
            error = request.cancel_error
            if error is None and request.output is not None:
                request.output.finish()
            self._end(request, "cancelled" if error is None else None, error)

    def fail(self, request: Request, error: BaseException) -> None:
        """End a request with an error, unless it has ended."""
        if not request.finished:
            self._counts.failed += 1
            self._end(request, error=error)

    def begin_anew(self, unseen: Sequence[Request], error: BaseException) -> None:
        """End all requests with this error and forget what they held, whatever a fault has left undone.

        What is counted goes on. `unseen` are requests that were never submitted here: they count as well.
        """
        requests = [*self.running, *self._queue, *unseen]
        self._forget()
        self.pool.clear()
        self._counts.started += len(unseen)
        for request in requests:
            if request.finished_at is None:  # else the fault came after its end
                self._counts.failed += 1
                request.finished_at = self.now
            request.blocks, request.num_cached, request.is_running = [], 0, False
            request.error = request.error or (error if request.finish_reason is None else None)
            self._released(request)

    def stats(self) -> EngineStats:
        """What has been done so far, and the state now."""
        pool = self.pool
        return replace(
            self._counts,
            running=len(self.running),
            waiting=len(self._queue),
            queued_tokens=self._queue.num_tokens,
            free_blocks=pool.num_free,
            owned_blocks=pool.num_owned,
            cached_blocks=pool.num_cached,
            step_sizes=dict(self._sizes),
        )

    # Plan -------------------------------------------------------------------------------------------

    def plan(self, admits: bool = True) -> tuple[Chunk, ...]:
        """Choose the tokens of the next step; `proposed_ids` of requests are taken into account.

        Args:
            admits: whether requests that wait may begin.
        """
        self._end_due()
        self._grow()
        if admits and self._queue:
            self._admit()
        by_age = self._counts.steps % AGE_TURN == AGE_TURN - 1
        order = sorted(self.running, key=_age if by_age else self._queue.rank)
        return plan_step(order, self.limits)

    def _end_due(self) -> None:
        for request in [request for request in self.running if request.cancel_requested]:
            self.cancel(request)
        for request, missed in self._deadlines.passed(self.now):
            self._counts.expired += 1
            seconds = self.now - request.submitted_at
            self.fail(request, DeadlineError(f"after {seconds:.1f} seconds {missed}; allow more time"))

    def _grow(self) -> None:
        """Give everybody the blocks of the tokens that are known, and then, if any are left, of guesses."""
        for request in sorted(self.running, key=_seniority):
            while request.is_running and not extend_blocks(self.pool, request, request.num_tokens):
                self._preempt(max(self.running, key=_seniority))
        for request in self.running:
            proposed = request.proposed_ids  # mostly empty
            while proposed and not extend_blocks(self.pool, request, request.num_tokens + len(proposed)):
                proposed.pop()

    def _admit(self) -> None:
        while (request := self._next()) is not None:
            self._queue.take(request)
            request.is_running = True
            self.running.append(request)
            if request.started_at is None:
                request.started_at = self.now
                request.num_reused = request.num_cached
                self._counts.prefix_queries += len(request.prompt_ids) if self.pool.keeps_prefixes else 0
                self._counts.prefix_hits += request.num_reused
            self._counts.recomputed_tokens += max(0, request.num_lost - request.num_cached)
            request.num_lost = 0

    def _next(self) -> Request | None:
        """Who begins now, with its blocks taken; None where nobody can."""
        while (request := self._queue.first()) is not None and request.cancel_requested:
            self.cancel(request)
        if request is None:
            return None
        if (self._queue.is_age_turn or self._has_use_for(request)) and self._take_place(request):
            return request
        urgent = self._queue.most_urgent() or request
        while self.running and self._has_use_for(urgent):
            victim = max(self.running, key=_seniority)
            if victim.priority <= urgent.priority or victim.num_preemptions >= MOST_PREEMPTIONS:
                break
            self._preempt(victim)
            if self._take_place(urgent):
                return urgent
        return None

    def _has_use_for(self, request: Request) -> bool:
        """Whether the step has room for more tokens, or this request comes before those that fill it."""
        prompts = [one for one in self.running if one.num_pending > 1]
        if any(reads_what_is_missing(self.pool, request, other) for other in prompts):
            return False  # soon it can share what it would otherwise compute at the same time
        room = self.limits.max_step_tokens - sum(one.num_pending for one in self.running)
        rank = self._queue.rank
        return room > 0 or rank(request) < min(map(rank, prompts), default=rank(request))

    def _take_place(self, request: Request) -> bool:
        # Everybody who runs gets a token in every step, and will soon need a block for it.
        places = min(self.limits.max_sequences, self.limits.max_step_tokens)
        return len(self.running) < places and take_blocks(
            self.pool, request, request.num_tokens, spare=len(self.running)
        )

    def _preempt(self, request: Request) -> None:
        self._counts.preemptions += 1
        request.num_preemptions += 1
        request.num_lost = request.num_cached
        self._release(request)
        self._queue.add(request)
        self._released(request)

    # Commit -----------------------------------------------------------------------------------------

    def commit(self, chunks: Sequence[Chunk], draw: Callable[[Request, int], int]) -> None:
        """Take note that the chunks of a plan have been computed, and draw the next tokens.

        Args:
            chunks: what `plan` returned.
            draw: gives a token for a request from a row of the step's logits; if it raises, that one fails.
        """
        counts, size = self._counts, sum(chunk.num_tokens for chunk in chunks)
        counts.steps += 1
        counts.step_sequences += len(chunks)
        self._sizes[size] = self._sizes.get(size, 0) + 1
        row = 0
        for chunk in chunks:
            request = chunk.request
            self._shares.charge(request.tenant, chunk.num_tokens)
            try:
                self._commit_chunk(chunk, draw, row)
            except Exception as error:
                self.fail(request, error)
            row += chunk.num_drawn

    def _commit_chunk(self, chunk: Chunk, draw: Callable[[Request, int], int], first_row: int) -> None:
        request, counts = chunk.request, self._counts
        proposed, request.proposed_ids = request.proposed_ids[: chunk.num_proposed], []
        counts.prompt_tokens += max(0, min(chunk.num_tokens, len(request.prompt_ids) - request.num_cached))
        request.num_cached += chunk.num_tokens - chunk.num_proposed
        publish_blocks(self.pool, request)
        num_accepted = 0
        for index in range(chunk.num_drawn):
            token = draw(request, first_row + index)
            is_accepted = proposed[index : index + 1] == [token]
            self._accept(request, token)
            if request.finished or not is_accepted:
                break
            num_accepted += 1
            request.num_cached += 1  # the guess was in the step, so its keys and values are there
            publish_blocks(self.pool, request)
        if chunk.samples:
            request.num_draws += 1
        if proposed:
            request.num_proposed += len(proposed)
            request.num_accepted += num_accepted
            counts.drafts += 1
            counts.proposed_tokens += len(proposed)
            counts.accepted_tokens += num_accepted
            if not request.finished:
                self._checked(request, len(proposed), num_accepted)

    def _accept(self, request: Request, token: int) -> None:
        if request.first_token_at is None:
            request.first_token_at = self.now
        if token in request.stop_ids:
            request.stop_id = token
            self._finish(request, "stop")
            return
        constraint = request.constraint
        if constraint is not None:
            constraint.accept(token)
        request.generated_ids.append(token)
        self._counts.generated_tokens += 1
        may_stop = len(request.generated_ids) > request.params.min_tokens
        has_ended = request.output is not None and request.output.push(token, may_stop)
        if has_ended or (constraint is not None and constraint.is_finished):
            self._finish(request, "stop")
        elif len(request.generated_ids) == request.max_new_tokens:
            self._finish(request, "length")

    # The end ----------------------------------------------------------------------------------------

    def _finish(self, request: Request, reason: FinishReason) -> None:
        if request.output is not None:
            request.output.finish()
            if request.output.stop_string is not None and reason == "length":
                reason = "stop"  # the very last bytes completed a stop string
        self._counts.finished += 1
        self._end(request, reason)

    def _end(
        self, request: Request, reason: FinishReason | None = None, error: BaseException | None = None
    ) -> None:
        request.finished_at = self.now
        if request.is_running:
            self._release(request)
        else:
            self._queue.remove(request)
        self._shares.leave(request.tenant)
        # Last: whoever waits in another thread looks at these.
        request.finish_reason, request.error = reason, error
        self._released(request)

    def _release(self, request: Request) -> None:
        release_blocks(self.pool, request)
        request.proposed_ids = []
        request.is_running = False
        self.running.remove(request)


def _age(request: Request) -> int:
    return request.number


def _seniority(request: Request) -> tuple[bool, int, int]:
    """The largest is preempted first."""
    return request.num_preemptions < MOST_PREEMPTIONS, request.priority, request.number
