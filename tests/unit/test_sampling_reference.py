"""Each step of the sampler by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tercet.errors import ParameterError
from tercet.sampling.params import SamplingParams
from tercet.sampling.reference import sample, uniform


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def drawn(logits: np.ndarray, steps: int = 400, **params: float) -> set[int]:
    """The tokens that turn up in so many draws; one of probability p is missed with odds (1 - p) ** steps."""
    chosen = SamplingParams(**{"temperature": 1.0, "top_p": 1.0, "seed": 1} | params)
    return {sample(logits, chosen, step=step) for step in range(steps)}


def greedy(logits: np.ndarray, prompt: list[int], generated: list[int], **params: float) -> int:
    return sample(logits, SamplingParams(temperature=0, **params), prompt, generated)


def test_splitmix64_gives_the_published_numbers() -> None:
    """First outputs for the seed 1234567, as Rosetta Code lists them for this generator."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [uniform(1234567, step) for step in range(4)] == [(number >> 40) / 2**24 for number in published]
    assert uniform(0, 0) == (0xE220A8397B1DCDAF >> 40) / 2**24
    assert 0 <= uniform(2**64 - 1, 2**31) < 1


def test_temperature_zero_takes_the_largest_and_the_lower_id_of_equals() -> None:
    assert greedy(f32(1, 3, 3, 2), [], []) == 1
    assert greedy(f32(-np.inf, -5, -np.inf), [], []) == 1


def test_repetition_penalty_divides_above_zero_and_multiplies_below() -> None:
    assert greedy(f32(3, 2), [0], [], repetition_penalty=2) == 1
    assert greedy(f32(3, 2), [], [0], repetition_penalty=2) == 1
    assert (
        greedy(f32(3, 2), [0, 0, 0], [0], repetition_penalty=1.4) == 0
    )  # once, however often it stands there
    assert greedy(f32(-1, -1.5), [0], [], repetition_penalty=2) == 1
    assert greedy(f32(-1, -0.9), [0], [], repetition_penalty=0.5) == 0


def test_presence_and_frequency_see_the_answer_alone() -> None:
    assert greedy(f32(3, 2), [0, 0], [], presence_penalty=2, frequency_penalty=2) == 0
    assert greedy(f32(3, 2), [], [0, 0], presence_penalty=1.5) == 1
    assert greedy(f32(3, 2), [], [0, 0], presence_penalty=0.9) == 0
    assert greedy(f32(3, 2), [], [0, 0], frequency_penalty=0.6) == 1
    assert greedy(f32(3, 2), [], [0], frequency_penalty=0.6) == 0
    assert greedy(f32(3, 2), [], [1], presence_penalty=-2) == 1


def test_penalties_do_not_change_the_callers_logits() -> None:
    logits = f32(3, 2)
    greedy(logits, [0], [1], repetition_penalty=2, presence_penalty=1)
    assert logits.tolist() == [3, 2]


def test_top_k_keeps_the_lower_ids_of_equals() -> None:
    assert drawn(f32(0, 1, 1, 1), top_k=2) == {1, 2}
    assert drawn(f32(0, 1, 1, 1), top_k=100) == {0, 1, 2, 3}
    assert drawn(f32(0, 1, 1, 1), top_k=0) == {0, 1, 2, 3}
    assert drawn(f32(0, 5, 1, 9), top_k=1) == {3}


def test_top_p_keeps_the_shortest_prefix_that_reaches_it() -> None:
    logits = np.log(f32(1, 4, 2, 1))  # probabilities 1/8, 1/2, 1/4, 1/8
    assert drawn(logits, top_p=0.49) == {1}
    assert drawn(logits, top_p=0.51) == {1, 2}
    assert drawn(logits, top_p=0.8) == {0, 1, 2}
    assert drawn(logits, top_p=1) == {0, 1, 2, 3}
    assert drawn(logits, top_p=1e-9) == {1}
    assert drawn(f32(0, 0, 0, 0), top_p=0.5) == {0, 1}  # reaches one half exactly


def test_top_p_works_on_what_top_k_left() -> None:
    logits = np.log(f32(4, 2, 1, 1))  # two of four: 2/3 and 1/3
    assert drawn(logits, top_k=2, top_p=0.65) == {0}
    assert drawn(logits, top_k=2, top_p=0.7) == {0, 1}


def test_min_p_compares_with_the_likeliest() -> None:
    logits = np.log(f32(1, 4, 2, 1))
    assert drawn(logits, min_p=0.51) == {1}
    assert drawn(logits, min_p=0.49) == {1, 2}
    assert drawn(logits, min_p=0.2) == {0, 1, 2, 3}
    assert drawn(f32(1, 1, 0), min_p=1) == {0, 1}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_probabilities(temperature: float) -> None:
    """20,000 draws of four tokens: by chance a share is off by 0.018 (5 sigma) once in a million seeds."""
    logits = f32(0, 1, 2, -1)
    params = SamplingParams(temperature=temperature, top_p=1.0, seed=7)
    counts = np.bincount([sample(logits, params, step=step) for step in range(20_000)], minlength=4)
    expected = np.exp(logits / temperature)
    assert counts / 20_000 == pytest.approx(expected / expected.sum(), abs=0.018)


def test_a_draw_takes_the_first_token_whose_running_sum_exceeds_u() -> None:
    """Four equal tokens: u in [k/4, (k+1)/4) takes token k."""
    params = SamplingParams(temperature=1, top_p=1.0, seed=3)
    for step in range(100):
        assert sample(f32(2, 2, 2, 2), params, step=step) == int(uniform(3, step) * 4)


def test_a_forbidden_token_is_never_drawn() -> None:
    assert drawn(f32(-np.inf, 0, -np.inf, 0)) == {1, 3}
    assert drawn(f32(-np.inf, 0, -np.inf, 0), top_k=3) == {1, 3}


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e30])
def test_extreme_temperatures(temperature: float) -> None:
    tokens = drawn(f32(1, 3, 2), temperature=temperature)
    assert tokens == ({0, 1, 2} if temperature > 1 else {1})


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (f32(1, np.nan), "the largest logit is nan"),
        (f32(1, np.inf), "the largest logit is inf"),
        (f32(-np.inf, -np.inf), "the largest logit is -inf"),
        (f32(), r"not float32 \[0\]"),
        (np.zeros(3), r"not float64 \[3\]"),
        (np.zeros((1, 3), np.float32), r"not float32 \[1, 3\]"),
    ],
)
def test_logits_that_give_no_token(logits: np.ndarray, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        sample(logits, SamplingParams(seed=1))


def test_a_penalty_that_overflows_is_refused() -> None:
    with pytest.raises(ParameterError, match="the largest logit is inf"):
        greedy(f32(3e38, 1), [0], [], repetition_penalty=0.01)


def test_tokens_and_seed_are_checked() -> None:
    with pytest.raises(ParameterError, match="token id 2 is not in the vocabulary of 2 tokens"):
        sample(f32(1, 2), SamplingParams(seed=1), [2])
    with pytest.raises(ParameterError, match="token id -1"):
        sample(f32(1, 2), SamplingParams(seed=1), [0], [-1])
    with pytest.raises(ParameterError, match="needs a seed"):
        sample(f32(1, 2), SamplingParams())


def test_bias_comes_before_penalties() -> None:
    assert greedy(f32(3, 2), [], [], logit_bias={1: 1.5}) == 1
    assert greedy(f32(3, 2), [], [], logit_bias={0: -100}) == 1
    assert greedy(f32(-1, 0.9), [], [0], logit_bias={0: 3}, repetition_penalty=2) == 0  # (-1 + 3) / 2
    with pytest.raises(ParameterError, match="token id 2 is not in the vocabulary"):
        greedy(f32(3, 2), [], [], logit_bias={2: 1})


def test_nothing_overrules_what_is_forbidden() -> None:
    chosen = SamplingParams(temperature=0, logit_bias={0: 100})
    assert sample(f32(3, 2, 1), chosen, allowed=np.array([False, True, True])) == 1
    with pytest.raises(ParameterError, match="no probability"):
        sample(f32(3, 2), chosen, allowed=np.zeros(2, bool))


def test_tokens_that_end_the_answer_wait_for_its_minimum() -> None:
    chosen = SamplingParams(temperature=0, min_tokens=2, logit_bias={0: 50})
    answers = [sample(f32(3, 2, 1), chosen, [0], [1] * count, stop_ids=[0, 1]) for count in range(4)]
    assert answers == [2, 2, 0, 0]
