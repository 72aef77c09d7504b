"""The laws of the scheduler, whoever comes, leaves, fails or runs out of time, in whatever order.

No block is lost, or written by two; every request ends, and is counted once; its tokens are those that it
would have alone. The runner is a sum over what is really in the cache, so a wrong block or position shows.
"""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, make_request
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.request import Request
from tercet.engine.scheduler import MOST_PREEMPTIONS, Scheduler
from tercet.errors import ContextLengthError, DeadlineError

MOST_TOKENS = 9
LONGEST_PROMPT = 14
ENOUGH_BLOCKS = -(-(LONGEST_PROMPT + MOST_TOKENS) // BLOCK_TOKENS)
PROMPTS = st.builds(
    lambda length, end: [*range(1, length + 1), *end][:LONGEST_PROMPT],
    st.integers(0, LONGEST_PROMPT),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
)
"""Most of them begin like others."""


class SchedulerMachine(RuleBasedStateMachine):
    """Requests of two tenants and three priorities in a cache that is too small for all of them."""

    requests = Bundle("requests")

    @initialize(
        num_blocks=st.integers(ENOUGH_BLOCKS, ENOUGH_BLOCKS + 3),
        limits=st.builds(StepLimits, st.sampled_from([1, 3, 6, 12]), st.sampled_from([1, 3, 5])),
        keeps_prefixes=st.booleans(),
    )
    def begin(self, num_blocks: int, limits: StepLimits, keeps_prefixes: bool) -> None:
        self.runner = CountingRunner()
        self.pool = KvBlockPool(num_blocks, BLOCK_TOKENS, keeps_prefixes)
        self.gone = Counter[Request]()
        self.scheduler = Scheduler(self.pool, limits, released=lambda request: self.gone.update([request]))
        self.all: list[Request] = []
        self.unlucky: set[Request] = set()

    @rule(
        target=requests,
        prompts=st.lists(PROMPTS, min_size=1, max_size=4),
        num_tokens=st.sampled_from([1, 4, MOST_TOKENS, MOST_TOKENS]),
        priority=st.integers(-1, 1),
        tenant=st.sampled_from(["", "other"]),
        seconds=st.sampled_from([None, None, None, 5, 20]),
        seconds_to_first=st.sampled_from([None, None, None, 3, 10]),
    )
    def submit(
        self,
        prompts: list[list[int]],
        num_tokens: int,
        priority: int,
        tenant: str,
        seconds: int | None,
        seconds_to_first: int | None,
    ) -> object:
        made = []
        for prompt in prompts:
            request = make_request(prompt, num_tokens)
            request.priority, request.tenant, request.cache_salt = priority, tenant, tenant.encode()
            now = request.submitted_at = self.scheduler.now
            request.deadline = None if seconds is None else now + seconds
            request.first_token_deadline = None if seconds_to_first is None else now + seconds_to_first
            self.scheduler.submit(request)
            made.append(request)
        self.all += made
        return multiple(*made)

    @rule()
    def submit_what_can_never_fit(self) -> None:
        try:
            self.scheduler.submit(make_request([1] * BLOCK_TOKENS * self.pool.num_blocks, max_tokens=2))
        except ContextLengthError:
            return
        raise AssertionError("more than the whole pool was promised")

    @rule(request=requests, at_once=st.booleans())
    def cancel(self, request: Request, at_once: bool) -> None:
        request.cancel_requested = True
        if at_once or not request.is_running:
            self.scheduler.cancel(request)
            assert request.finished

    @rule(request=requests)
    def prepare_a_failure(self, request: Request) -> None:
        self.unlucky.add(request)

    @rule(request=requests, guesses=st.lists(st.integers(0, 1), max_size=4), is_right=st.booleans())
    def guess(self, request: Request, guesses: list[int], is_right: bool) -> None:
        room = request.max_new_tokens - len(request.generated_ids) - 1
        if request.is_running and request.is_generating:
            known = request.tokens(0, request.num_tokens)
            request.proposed_ids = (expected(known, len(guesses)) if is_right else guesses)[: max(room, 0)]

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.scheduler.now += seconds

    @rule(count=st.integers(1, 8))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @rule()
    def a_step_fails(self) -> None:
        for chunk in self.scheduler.plan():
            self.scheduler.fail(chunk.request, MemoryError("no"))

    @precondition(lambda self: self.pool.num_available)
    @rule(data=st.data())
    def others_use_the_pool_between_two_steps(self, data: st.DataObject) -> None:
        owned = self.pool.allocate(data.draw(st.integers(1, self.pool.num_available)))
        for block in owned:
            self.runner.memory.update({(block, offset): -1 for offset in range(BLOCK_TOKENS)})
        self.pool.release(owned)

    def step(self) -> None:
        chunks = self.scheduler.plan()
        assert bool(chunks) == bool(self.scheduler.running)
        assert self.scheduler.has_work == bool(chunks)  # whenever anybody waits, somebody gets on
        limits = self.scheduler.limits
        assert sum(chunk.num_tokens for chunk in chunks) <= limits.max_step_tokens
        assert len(chunks) <= limits.max_sequences
        for chunk in chunks:
            held = len(chunk.request.blocks) * BLOCK_TOKENS
            assert chunk.request.num_cached + chunk.num_tokens <= held
        if not chunks:
            return
        logits = self.runner.run(chunks)

        def draw(request: Request, row: int) -> int:
            if request in self.unlucky:
                raise ValueError("bad luck")
            return self.runner.sample(logits[row], request)

        self.scheduler.now += 0.001
        self.scheduler.commit(chunks, draw)

    @invariant()
    def no_block_is_lost_or_written_by_two(self) -> None:
        pool, running = self.pool, self.scheduler.running
        assert pool.num_free + pool.num_owned + pool.num_cached == pool.num_blocks
        holders = Counter(itertools.chain.from_iterable(request.blocks for request in running))
        assert pool.num_owned == len(holders)
        written = [block for request in running for block in request.blocks[request.num_published :]]
        assert all(holders[block] == 1 for block in written)

    @invariant()
    def everybody_is_in_one_state(self) -> None:
        running = self.scheduler.running
        assert [request for request in self.all if request.is_running] == sorted(
            running, key=lambda request: request.number
        )
        for request in self.all:
            assert bool(request.blocks) == request.is_running
            assert not (request.is_running and request.finished)
            assert request.num_cached <= request.num_tokens
            ended = request.finished_at is not None
            assert ended == request.finished
            assert self.gone[request] == request.num_preemptions + ended

    @invariant()
    def everybody_is_counted_once(self) -> None:
        stats = self.scheduler.stats()
        assert stats.started == len(self.all)
        ends = stats.finished + stats.aborted + stats.failed
        assert stats.started == ends + stats.running + stats.waiting
        assert ends == sum(request.finished for request in self.all)
        assert stats.expired == sum(isinstance(request.error, DeadlineError) for request in self.all)
        waiting = [one for one in self.all if not one.finished and not one.is_running]
        assert stats.queued_tokens == sum(request.num_pending for request in waiting)
        assert stats.generated_tokens == sum(len(request.generated_ids) for request in self.all)
        assert stats.preemptions == sum(request.num_preemptions for request in self.all)

    @invariant()
    def tokens_are_those_of_the_request_alone(self) -> None:
        for request in self.all:
            assert request.generated_ids == expected(request.prompt_ids, len(request.generated_ids))

    def teardown(self) -> None:
        if not hasattr(self, "all"):
            return
        # Each step computes at least a token that no later preemption of more than three takes away again.
        tokens = sum(len(request.prompt_ids) + request.max_new_tokens for request in self.all)
        for _ in range((MOST_PREEMPTIONS + 1 + len(self.all)) * tokens):
            if all(request.finished for request in self.all):
                break
            self.step()
            self.no_block_is_lost_or_written_by_two()
        assert all(request.finished for request in self.all)
        self.everybody_is_counted_once()
        self.tokens_are_those_of_the_request_alone()
        assert self.pool.num_owned == 0
        for request in self.all:
            if request.finish_reason == "length":
                assert len(request.generated_ids) == request.max_new_tokens
            assert (request.error is None) != (request.finish_reason is None)


def test_the_laws_hold() -> None:
    run_state_machine_as_test(SchedulerMachine, settings=settings(max_examples=150, stateful_step_count=40))
