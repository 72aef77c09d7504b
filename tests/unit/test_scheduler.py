"""Who is next, who gives way, and who runs out of time; no clock and no arrays are needed to ask."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_engine import BLOCK_TOKENS, CountingRunner, Digits, expected, make_request
from tercet.engine.deadlines import Deadlines
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.request import Request
from tercet.engine.scheduler import Scheduler
from tercet.engine.text_output import TextOutput
from tercet.engine.waiting_queue import TenantShares, WaitingQueue
from tercet.errors import DeadlineError


class Played:
    """A scheduler with a runner, so that steps can be told in tokens."""

    def __init__(self, num_blocks: int = 64, tokens: int = 64, sequences: int = 4, prefixes: bool = False):
        self.runner = CountingRunner()
        self.pool = KvBlockPool(num_blocks, BLOCK_TOKENS, prefixes)
        self.scheduler = Scheduler(self.pool, StepLimits(tokens, sequences))

    def submit(self, prompt: list[int], max_tokens: int = 5, **fields: Any) -> Request:
        request = make_request(prompt, max_tokens)
        for name, value in fields.items():
            setattr(request, name, value)
        self.scheduler.submit(request)
        return request

    def step(self) -> list[tuple[Request, int]]:
        """Who got how many tokens."""
        chunks = self.scheduler.plan()
        if chunks:
            logits = self.runner.run(chunks)
            self.scheduler.commit(chunks, lambda request, row: self.runner.sample(logits[row], request))
        return [(chunk.request, chunk.num_tokens) for chunk in chunks]

    def finish(self, *requests: Request) -> None:
        for _ in range(1000):
            if all(request.finished for request in requests):
                return
            self.step()
        raise AssertionError("they do not end")


def in_order(played: Played, requests: Sequence[Request]) -> list[int]:
    """The indices of requests in the order in which they began."""
    begun: list[int] = []
    while len(begun) < len(requests):
        played.step()
        begun += [
            index for index, one in enumerate(requests) if index not in begun and one.started_at is not None
        ]
    return begun


def test_a_lower_number_runs_first_and_otherwise_who_came_first() -> None:
    played = Played(sequences=1)
    requests = [played.submit([1], 2, priority=priority) for priority in (1, 0, -3, 0)]
    assert in_order(played, requests) == [2, 1, 3, 0]


def test_a_higher_priority_takes_the_place_of_a_lower_one() -> None:
    played = Played(sequences=2)
    batch = [played.submit([one, 2, 3], 9, priority=5) for one in range(2)]
    played.step()
    played.step()
    urgent = played.submit([7], 3)
    assert played.step() == [(urgent, 1), (batch[0], 1)]
    assert (batch[1].is_running, batch[1].blocks, batch[1].num_preemptions) == (False, [], 1)
    second, third = played.submit([8], 3), played.submit([9], 3)
    assert [request for request, _ in played.step()] == [urgent, second]  # the third is no better than these
    played.finish(*batch, urgent, second, third)
    assert [one.generated_ids for one in batch] == [expected([one, 2, 3], 9) for one in range(2)]


def test_equals_do_not_push_each_other_out() -> None:
    played = Played(sequences=1)
    first, second = played.submit([1], 6), played.submit([2], 6)
    for _ in range(5):
        assert second not in dict(played.step())
    played.finish(first, second)
    assert played.scheduler.stats().preemptions == 0


def test_memory_is_taken_from_the_youngest_of_the_lowest_priority() -> None:
    played = Played(num_blocks=8)
    requests = [played.submit([1, 2, 3, one], 12, priority=one % 2 == 0) for one in range(3)]  # 4 blocks each
    played.finish(*requests)
    assert requests[0].num_preemptions == requests[1].num_preemptions == 0
    assert requests[2].num_preemptions > 0
    for one, request in enumerate(requests):
        assert request.generated_ids == expected([1, 2, 3, one], 12)


def test_what_was_preempted_finds_what_is_left_of_it() -> None:
    played = Played(num_blocks=32, sequences=1, prefixes=True)
    low = played.submit(list(range(16)), 9, priority=1)
    played.step()
    played.step()
    high = played.submit([9], 2)
    played.finish(high)
    assert played.step() == [(low, 2)]  # 16 tokens of the prompt are still there; 2 were generated
    played.finish(low)
    stats = played.scheduler.stats()
    assert (stats.preemptions, stats.recomputed_tokens, low.num_reused) == (1, 1, 0)
    assert low.generated_ids == expected(list(range(16)), 9)


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    played = Played(tokens=8, prefixes=True)
    requests = [played.submit(list(range(18)), 2) for _ in range(3)]
    other = played.submit([9] * 5, 2, tenant="other")
    played.finish(*requests, other)
    assert [request.num_reused for request in requests] == [0, 16, 16]
    assert sum(map(sum, played.runner.steps)) == 18 + 2 + 2 + 5 + 4  # and a token of each is fed back


def test_nobody_is_preempted_without_end() -> None:
    played = Played(sequences=1)
    low = played.submit([1], 20, priority=1)
    for _ in range(3):
        played.step()
        played.finish(played.submit([2], 1))
    assert low.num_preemptions == 3
    played.step()
    late = played.submit([3], 1)
    played.finish(low)
    assert (low.num_preemptions, late.started_at) == (3, None)


def test_a_tenant_with_one_request_does_not_wait_for_one_with_many() -> None:
    played = Played(sequences=1)
    many = [played.submit([one], 3, tenant="many") for one in range(20)]
    played.finish(many[0])
    single = played.submit([1], 3, tenant="single")
    played.finish(single)
    assert sum(request.started_at is not None for request in many) <= 2
    played.finish(*many)


def test_prompts_of_tenants_are_read_by_turns() -> None:
    played = Played(tokens=8)
    long = played.submit([1] * 100, 2, tenant="long")
    played.step()
    short = played.submit([2] * 12, 2, tenant="short")
    played.finish(short)
    assert long.num_cached < 40


def test_a_low_priority_is_not_starved() -> None:
    played = Played(sequences=2, tokens=6)
    numbers = itertools.count()
    low = played.submit([1] * 30, 10, priority=9)
    urgent: list[Request] = []
    for _ in range(600):
        urgent = [request for request in urgent if not request.finished]
        while len(urgent) < 6:
            urgent.append(played.submit([next(numbers) % 7] * 8, 4))
        played.step()
        if low.finished:
            break
    assert low.finish_reason == "length"
    assert low.generated_ids == expected([1] * 30, 10)


def test_a_large_request_is_not_passed_by_small_ones_for_ever() -> None:
    played = Played(num_blocks=8, sequences=4)
    small = [played.submit([one], 3) for one in range(4)]
    played.step()
    large = played.submit([5] * 28, 4)
    for _ in range(100):
        if large.finished:
            break
        small.append(played.submit([6], 3))
        played.step()
    assert large.finish_reason == "length"


@pytest.mark.parametrize("runs", [True, False])
def test_deadlines_end_who_runs_and_who_waits(runs: bool) -> None:
    played = Played(sequences=1)
    other = played.submit([9], 30) if not runs else None
    played.step()
    request = played.submit([1], 30, deadline=4.0, first_token_deadline=2.0)
    played.step()
    played.scheduler.now = 2.0
    played.step()
    assert request.finished != runs  # the one that runs has its first token
    played.scheduler.now = 4.0
    played.step()
    assert isinstance(request.error, DeadlineError)
    message = "answered to its end" if runs else "the first token of the request had not come"
    assert message in str(request.error)
    stats = played.scheduler.stats()
    assert (stats.failed, stats.expired, stats.waiting) == (1, 1, 0)
    if other is not None:
        played.finish(other)
    assert played.pool.num_owned == 0


def test_deadlines_forget_what_has_ended() -> None:
    deadlines = Deadlines()
    for number in range(1000):
        request = make_request([1])
        request.deadline, request.number = 1e6 - number, number
        request.finish_reason = "stop" if number % 10 else None
        deadlines.add(request)
    assert len(deadlines._entries) < 300
    assert len(list(deadlines.passed(2e6))) == 100
    assert not list(deadlines.passed(2e6))


def test_tenants_that_are_away_are_forgotten_unless_they_are_ahead() -> None:
    shares = TenantShares()
    for name, tokens in (("a", 10), ("b", 30), ("c", 20)):
        shares.enter(name)
        shares.charge(name, tokens)
    shares.leave("b")
    shares.leave("a")
    shares.enter("d")
    assert shares.tokens("d") == 30  # who comes starts where those who are here are
    shares.enter("b")
    assert shares.tokens("b") == 40  # and owes what he had
    shares.enter("a")
    assert shares.tokens("a") == 30
    for name in "abcd":
        shares.leave(name)
    shares.enter("b")
    assert shares.tokens("b") == 0  # nobody was here any more


def test_the_queue_forgets_who_left() -> None:
    shares = TenantShares()
    queue = WaitingQueue(shares)
    for number in range(1000):
        request = make_request([1])
        request.number = number
        shares.enter("")
        queue.add(request)
        if number:
            queue.remove(request)
    assert sum(map(len, queue._groups.values())) < 70
    first = queue.first()
    assert first is not None
    assert first.number == 0


def test_a_text_that_cannot_be_finished_fails_its_request_alone() -> None:
    class Broken(TextOutput):
        def finish(self) -> None:
            raise ValueError("no")

    played = Played()
    broken, other = played.submit([1], 3, output=Broken(Digits())), played.submit([2], 3)
    played.finish(broken, other)
    assert isinstance(broken.error, ValueError)
    assert other.generated_ids == expected([2], 3)
    stats = played.scheduler.stats()
    assert (stats.finished, stats.failed, stats.owned_blocks) == (1, 1, 0)


@given(
    requests=st.lists(
        st.tuples(st.integers(-1, 1), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=30
    )
)
def test_the_queue_counts_and_gives_everybody_once(requests: list[tuple[int, str, bool]]) -> None:
    shares = TenantShares()
    queue = WaitingQueue(shares)
    made = []
    for number, (priority, tenant, stays) in enumerate(requests):
        request = make_request([1] * (number + 1))
        request.priority, request.tenant, request.number = priority, tenant, number
        shares.enter(tenant)
        queue.add(request)
        if stays:
            made.append(request)
        else:
            queue.remove(request)
    taken = []
    while (request := queue.first()) is not None:  # type: ignore[assignment]
        assert queue.num_tokens == sum(one.num_pending for one in made if one not in taken)
        assert request == queue.first()
        urgent = queue.most_urgent()
        assert urgent is not None
        assert urgent.priority == min(one.priority for one in made if one not in taken)
        queue.take(request)
        taken.append(request)
    assert sorted(one.number for one in taken) == [one.number for one in made]
    assert (len(queue), queue.num_tokens) == (0, 0)


@given(
    prompts=st.lists(st.integers(1, 12), min_size=2, max_size=8),
    priorities=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    num_blocks=st.integers(5, 9),
    sequences=st.integers(2, 8),
    prefixes=st.booleans(),
)
def test_tokens_do_not_depend_on_preemption(
    prompts: list[int], priorities: list[int], num_blocks: int, sequences: int, prefixes: bool
) -> None:
    played = Played(num_blocks, 16, sequences, prefixes)
    requests = []
    for length, priority in zip(prompts, priorities, strict=False):
        requests.append(played.submit(list(range(length)), 9, priority=priority))
        played.step()
    played.finish(*requests)
    for length, request in zip(prompts, requests, strict=True):
        assert request.generated_ids == expected(list(range(length)), 9)
    stats = played.scheduler.stats()
    assert stats.finished == len(requests)
    assert stats.generated_tokens == 9 * len(requests)
    assert sum(size * count for size, count in stats.step_sizes.items()) == sum(map(sum, played.runner.steps))
    assert stats.prefix_queries == (sum(prompts) if prefixes else 0)
    assert stats.prefix_hits == sum(request.num_reused for request in requests)
