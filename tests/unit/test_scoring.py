"""Scores of tokens: those of the logits, whatever is read beside them, equal beginnings read once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_engine import BLOCK_TOKENS, CountingRunner
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.reading import Logits, read_sequences
from tercet.errors import ContextLengthError, ParameterError
from tercet.evaluation.scoring import ROWS_AT_A_TIME, score, score_continuations, target_scores
from tercet.llm import LLM


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> Iterator[LLM]:
    with LLM(tiny_model_file, threads=1) as opened:
        yield opened


def test_scores_are_those_of_the_logits(llm: LLM) -> None:
    rng = np.random.default_rng(5)
    sequences = [rng.integers(0, llm.config.vocab_size, size).tolist() for size in (1, 2, 30, 9, 64, 17)]
    sequences += [[*sequences[2][:20], 3, 4], sequences[2]]  # equal beginnings, and one twice
    for ids, found in zip(sequences, score(llm, sequences), strict=True):
        logits = llm.logits(ids)[:-1].astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        assert found.log_probabilities == pytest.approx(expected[np.arange(len(ids) - 1), ids[1:]], rel=1e-9)
        assert (found.is_greedy == (logits.argmax(axis=1) == ids[1:])).all()


def test_company_changes_no_bit(llm: LLM) -> None:
    context = [5, 6, 7, 8] * 9
    pairs = [(context, [1, 2]), (context, [3]), ([9], [1] * 40), (context[:-1], [1]), (context, [])]
    together = list(score_continuations(llm, pairs))
    alone = [next(score_continuations(llm, [pair])) for pair in pairs]
    for a, b in zip(together, alone, strict=True):
        assert a.log_probabilities.tobytes() == b.log_probabilities.tobytes()
    assert [len(one.is_greedy) for one in together] == [2, 1, 40, 1, 0]


def test_what_cannot_be_scored(llm: LLM) -> None:
    with pytest.raises(ParameterError, match="sequence 1 has no token"):
        list(score(llm, [[1, 2], []]))
    with pytest.raises(ParameterError, match="sequence 0 has token 99999"):
        list(score(llm, [[1, 99999]]))
    most = [1] * (llm.max_context + 1)  # behind the last one nothing is asked
    assert len(next(score(llm, [most])).is_greedy) == llm.max_context
    with pytest.raises(ContextLengthError, match="holds"):
        list(score(llm, [[*most, 1]]))


def test_huge_logits_and_many_rows_neither_overflow_nor_go_missing() -> None:
    rows = 2 * ROWS_AT_A_TIME + 3
    logits = np.zeros((rows, 4), np.float32)
    logits[:, 1] = 3e38
    found = target_scores(logits, [1] * rows)
    assert found.log_probabilities.shape == (rows,)
    assert not found.log_probabilities.any()
    assert found.is_greedy.all()


def _read(
    sequences: list[list[int]], firsts: list[int], num_blocks: int, limits: StepLimits, shares: bool
) -> tuple[list[dict[int, float]], CountingRunner]:
    runner, pool = CountingRunner(), KvBlockPool(num_blocks, BLOCK_TOKENS, keeps_prefixes=shares)
    found: list[dict[int, float]] = [{} for _ in sequences]

    def seen(index: int, position: int, logits: Logits) -> None:
        for offset, row in enumerate(logits):
            assert position + offset not in found[index]
            found[index][position + offset] = float(row[0])

    read_sequences(runner, pool, limits, sequences, firsts, seen)
    assert pool.num_owned == 0
    return found, runner


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=12),
    st.data(),
    st.booleans(),
)
def test_every_wanted_position_comes_once(
    sequences: list[list[int]], data: st.DataObject, shares: bool
) -> None:
    firsts = [data.draw(st.integers(0, len(ids) - 1)) for ids in sequences]
    limits = StepLimits(data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5)))
    found, runner = _read(sequences, firsts, data.draw(st.integers(6, 20)), limits, shares)
    for ids, first, one in zip(sequences, firsts, found, strict=True):
        assert one == {position: sum(ids[: position + 1]) for position in range(first, len(ids))}
    assert all(sum(step) <= limits.max_step_tokens for step in runner.steps)


def test_equal_beginnings_are_read_once() -> None:
    question = [1, 2, 3, 4] * 5
    _, runner = _read([[*question, answer] for answer in range(4)], [20] * 4, 40, StepLimits(64, 8), True)
    assert runner.steps == [[21], [1, 1, 1]]


def test_an_error_gives_the_memory_back() -> None:
    pool = KvBlockPool(8, BLOCK_TOKENS)

    def fail(index: int, position: int, logits: Logits) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_sequences(CountingRunner(), pool, StepLimits(), [[1, 2, 3]], [0], fail)
    assert pool.num_available == 8
