"""Guesses that a step checks: right ones save steps, wrong ones cost nothing but time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_engine import BLOCK_TOKENS, CountingRunner, expected, finish, make_request
from tercet.engine.draft import DraftModel
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.prompt_lookup import PromptLookup
from tercet.engine.request import Request
from tercet.engine.result import result_of
from tercet.engine.speculation import LONGEST_PAUSE, MOST_TOKENS, Pace, Proposer, Speculation


class Oracle:
    """Knows what follows, and is wrong at the positions that it is told."""

    def __init__(self, wrong: Sequence[int] = ()) -> None:
        self.wrong = wrong
        self.forgotten: list[Request] = []

    def propose(self, requests: Sequence[Request], counts: Sequence[int]) -> list[list[int]]:
        return [
            [
                token + (position in self.wrong)
                for position, token in enumerate(
                    expected(request.tokens(0, request.num_tokens), count), request.num_tokens
                )
            ]
            for request, count in zip(requests, counts, strict=True)
        ]

    def forget(self, request: Request) -> None:
        self.forgotten.append(request)


def make_engine(
    proposer: Proposer, num_blocks: int = 64, limits: StepLimits | None = None
) -> tuple[Engine, CountingRunner]:
    runner = CountingRunner()
    pool = KvBlockPool(num_blocks, BLOCK_TOKENS, keeps_prefixes=True)
    return Engine(runner, pool, limits, speculation=Speculation(proposer)), runner


def test_right_guesses_save_steps() -> None:
    oracle = Oracle()
    engine, runner = make_engine(oracle)
    request = make_request([1, 2, 3], max_tokens=16)
    engine.submit(request)
    finish(engine, request)
    assert request.generated_ids == expected([1, 2, 3], 16)
    assert runner.steps == [[3], [3], [5], [7]]  # twice as many each time, and none that is not needed
    figures = result_of(request, {}).metadata["speculation"]
    assert figures == {
        "proposed_tokens": 12,
        "accepted_tokens": 12,
        "acceptance": 1.0,
        "steps": 4,
        "tokens_per_step": 4.0,
    }
    assert oracle.forgotten == [request]


def test_a_wrong_guess_is_overwritten() -> None:
    engine, runner = make_engine(Oracle(wrong=[5]))
    request = make_request([1, 2, 3], max_tokens=10)
    engine.submit(request)
    finish(engine, request)
    assert request.generated_ids == expected([1, 2, 3], 10)
    # 2 guesses, of which 1 is right: 2 tokens, and 2 guesses next.
    assert runner.steps == [[3], [3], [3], [4]]
    assert (request.num_proposed, request.num_accepted) == (7, 6)


def test_the_end_may_lie_among_the_guesses() -> None:
    engine, _ = make_engine(Oracle())
    request = make_request([1, 2, 3], max_tokens=50, eos=48)
    engine.submit(request)
    finish(engine, request)
    assert (request.generated_ids, request.finish_reason) == ([6, 12, 24], "stop")
    assert engine.pool.num_owned == 0


def test_a_proposer_that_fails_ends_what_it_was_asked_about_and_not_the_engine() -> None:
    class Broken(Oracle):
        def propose(self, requests: Sequence[Request], counts: Sequence[int]) -> list[list[int]]:
            raise MemoryError("no")

    engine, _ = make_engine(Broken())
    request = make_request([1, 2, 3])
    engine.submit(request)
    finish(engine, request)
    with pytest.raises(MemoryError):
        engine.raise_error(request)
    short = make_request([1], max_tokens=1)
    engine.submit(short)
    finish(engine, short)
    assert short.generated_ids == [1]


def test_pace() -> None:
    pace = Pace(length=4)
    pace.checked(4, 4)
    assert pace.next_length() == MOST_TOKENS
    pace.checked(8, 2)
    assert pace.next_length() == 3
    pace.checked(3, 0)
    assert pace.next_length() == 1  # one miss is no reason to pause
    pauses = []
    for _ in range(8):
        pace.checked(1, 0)
        pauses.append(pace.pause)
        pace.pause = 0
    assert pauses == [4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    pace.checked(1, 1)
    assert [pace.next_length(), pace.num_misses] == [2, 0]


def test_a_pause_passes() -> None:
    pace = Pace(length=1, num_misses=1)
    pace.checked(1, 0)
    assert [pace.next_length() for _ in range(6)] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "count", "guess"),
    [
        ([1, 2, 3, 9, 1, 2], 3, [3, 9, 1]),
        ([1, 2, 3, 9, 1, 2], 1, [3]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 2, [4, 1]),  # the latest place
        ([7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2], 1, [3]),  # but the longest ending first
        ([1, 2, 3, 4], 4, []),
        ([5, 5, 5], 4, [5]),  # what is known of what follows
        ([5], 4, []),
    ],
)
def test_look_ups_by_hand(text: list[int], count: int, guess: list[int]) -> None:
    assert PromptLookup().propose([make_request(text)], [count]) == [guess]


def test_the_table_grows_with_the_answer() -> None:
    lookup, request = PromptLookup(), make_request([1, 2, 3])
    assert lookup.propose([request], [4]) == [[]]
    request.generated_ids += [1, 2]
    assert lookup.propose([request], [4]) == [[3, 1, 2]]
    lookup.forget(request)
    lookup.forget(request)


class SloppyRunner(CountingRunner):
    """A draft: the same sums, except that every third position is off by one."""

    def sample(self, logits: object, request: Request) -> int:
        return super().sample(logits, request) + (request.num_tokens % 3 == 0)  # type: ignore[arg-type]


def make_draft(num_blocks: int = 64, max_context: int = 1000) -> DraftModel:
    pool = KvBlockPool(num_blocks, BLOCK_TOKENS, keeps_prefixes=True)
    return DraftModel(SloppyRunner(), pool, max_context)  # type: ignore[arg-type]


def test_a_draft_reads_along_and_gives_its_memory_back() -> None:
    draft = make_draft()
    engine, runner = make_engine(draft)
    requests = [make_request([1, 2, 3, 4], max_tokens=12), make_request([5], max_tokens=9)]
    for request in requests:
        engine.submit(request)
    finish(engine, *requests)
    for request in requests:
        assert request.generated_ids == expected(request.prompt_ids, request.max_new_tokens)
        assert 0 < request.num_accepted < request.num_proposed
    assert len(runner.steps) < 12
    assert draft._pool.num_owned == 0
    assert engine.pool.num_owned == 0


def test_a_draft_says_nothing_where_text_or_memory_do_not_suffice() -> None:
    for draft in (make_draft(max_context=4), make_draft(num_blocks=1)):
        engine, runner = make_engine(draft)
        request = make_request([1, 2, 3, 4], max_tokens=4)
        engine.submit(request)
        finish(engine, request)
        assert request.generated_ids == expected([1, 2, 3, 4], 4)
        assert runner.steps == [[4], [1], [1], [1]]


@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), min_size=1, max_size=6),
    kind=st.sampled_from(["oracle", "lookup", "draft"]),
    wrong=st.lists(st.integers(0, 25), max_size=8),
    budget=st.integers(1, 12),
    num_blocks=st.integers(6, 20),
)
def test_tokens_do_not_depend_on_guesses(
    prompts: list[list[int]], kind: str, wrong: list[int], budget: int, num_blocks: int
) -> None:
    proposer = {"oracle": Oracle(wrong), "lookup": PromptLookup(), "draft": make_draft(num_blocks)}[kind]
    engine, runner = make_engine(proposer, num_blocks, StepLimits(budget, 3))
    requests = [make_request(prompt, max_tokens=12) for prompt in prompts]
    for request in requests:
        engine.submit(request)
    finish(engine, *requests)
    for request in requests:
        assert request.error is None
        assert request.generated_ids == expected(request.prompt_ids, 12)
    assert all(sum(step) <= budget for step in runner.steps)
    assert engine.pool.num_owned == 0
    if isinstance(proposer, DraftModel):
        assert proposer._pool.num_owned == 0
